"""The images, built and run as docker-compose.yml says, without a Docker engine: `make images`.

buildah builds them in a chroot, on a base that debootstrap makes. What Compose would do with them
is done here by the kernel's own means: an overlay and a mount, process and network namespace for
each container, a bridge between them, volumes as folders. Redis and SeaweedFS are the real ones.
"""
