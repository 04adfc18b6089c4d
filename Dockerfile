# The image of one member, with the tools and a shell. `make image` builds the same without a container engine: it reads the
# last stage below and lays it over what `make rootfs` made.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY . .
RUN apt-get update && make rootfs

FROM scratch
COPY --from=build /src/bin/rootfs /
LABEL org.opencontainers.image.title="Keelson" \
      org.opencontainers.image.description="An etcd that stays fast: a member, etcdctl, etcdutl and a shell" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-2.0-only"
ENV PATH=/usr/local/bin:/bin
WORKDIR /var/lib/etcd
VOLUME /etcd-data
EXPOSE 2379 2380
STOPSIGNAL SIGTERM
CMD ["/usr/local/bin/etcd"]
