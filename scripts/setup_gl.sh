#!/bin/sh
# Makes sure that frames can be drawn: installs Mesa's EGL where no backend works and that is allowed,
# and prints the command where it is not.
# usage: setup_gl.sh PYTHON
set -eu

python=$1
packages="libegl1 libgl1-mesa-dri libopengl0"

works() {
    "$python" -c 'from envs.rendering import select_backend; print("rendering with", select_backend().name)' \
        2>/dev/null
}

if works; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "No OpenGL backend works here: install EGL or OSMesa from Mesa (Debian: $packages)." >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    sudo=""
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo="sudo -n"
else
    echo "No OpenGL backend works here. Run: sudo apt-get install $packages" >&2
    exit 1
fi
# shellcheck disable=SC2086  # lists of words
{ $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y --no-install-recommends $packages; } ||
    { echo "Installing failed. Run: apt-get install $packages" >&2; exit 1; }
works || { echo "Installed $packages, but no OpenGL backend works yet: see nearfar doctor." >&2; exit 1; }
