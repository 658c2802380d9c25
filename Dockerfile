# GPU image whose entry point is topdb-tf. Needs the NVIDIA container toolkit:
#
#   docker build -t topdb-tf .
#   docker run --gpus all -v /data:/data -v "$PWD/runs:/topdb/runs" topdb-tf \
#       fit --dataset market1501 --data-root /data
FROM python:3.12-slim

WORKDIR /src
COPY setup.py pyproject.toml README.md LICENSE ./
COPY topdb_tf topdb_tf
COPY configs configs
COPY datasets datasets
RUN pip install --no-cache-dir '.[gpu]'

WORKDIR /topdb
ENTRYPOINT ["topdb-tf"]
