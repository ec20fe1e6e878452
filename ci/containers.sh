# shellcheck shell=bash
# What the scripts here that handle images share: the version, and which program builds and runs containers.
# IMAGE_BUILDER chooses: docker, podman, buildah, or a program that is called as PROGRAM TAG CONTEXT BUILDAH-OPTIONS….
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

version() { sed -n 's/^version = "\(.*\)"$/\1/p' "$root/pyproject.toml"; }

works() { command -v "$1" >/dev/null && "$1" info >/dev/null 2>&1; }

# builder: what builds images
builder() {
	local found
	if [ -n "${IMAGE_BUILDER:-}" ]; then
		command -v "$IMAGE_BUILDER" || die "IMAGE_BUILDER=$IMAGE_BUILDER cannot be run"
		return
	fi
	for found in docker podman buildah; do
		if works "$found"; then
			echo "$found"
			return
		fi
	done
	die 'found none of docker, podman and buildah that works here'
}

# engine: what runs, inspects and saves them; podman reads the images that buildah makes
engine() {
	local built
	built=$(builder) || exit 1
	case ${built##*/} in
	docker) echo docker ;;
	*) if works podman; then echo podman; else die "images of $built are run by podman, which does not work here"; fi ;;
	esac
}

# image_id NAME: of an image that podman and buildah have; fails where it is not there
image_id() {
	podman image inspect --format '{{.Id}}' "$1" 2>/dev/null ||
		buildah inspect --type image --format '{{.FromImageID}}' "$1" 2>/dev/null
}
