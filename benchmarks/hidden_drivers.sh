#!/bin/sh
# Hides the OpenGL drivers of a Debian machine from `nearfar doctor`, one way after another, and back again.
# usage, as root: hidden_drivers.sh OUT [COMMAND]    (COMMAND: how nearfar is called, for instance .venv/bin/nearfar)
set -eu

mkdir -p "$1"
out=$(realpath "$1")
nearfar=${2:-nearfar}
libraries=/usr/lib/$(uname -m)-linux-gnu
cd "$(mktemp -d)"

# name of the result, then variables
doctor() {
    name=$1
    shift
    code=0
    # shellcheck disable=SC2086  # a command may be several words
    env "$@" $nearfar doctor --json >"$out/$name.json" || code=$?
    echo "$name: exit code $code"
}

# name of the result, then files that are gone, in this process's view of the system only
doctor_without() {
    name=$1
    shift
    (
        export name out nearfar libraries
        unshare --mount sh -euc '
            mount -t tmpfs none /mnt
            mkdir /mnt/upper /mnt/work
            mount -t overlay none -o "lowerdir=$libraries,upperdir=/mnt/upper,workdir=/mnt/work" "$libraries"
            for pattern; do rm -f "$libraries"/$pattern; done
            $nearfar doctor --json >"$out/$name.json"
        ' sh "$@"
    ) || echo "$name: exit code $?"
}

mkdir empty damaged
for library in libEGL libOSMesa; do
    for suffix in "" .0 .1 .2 .3 .4 .5 .6 .7 .8 .9; do : >"damaged/$library.so$suffix"; done
done
apt-get -qq download libosmesa6
dpkg -x libosmesa6*.deb osmesa

doctor here
doctor no-vendor __EGL_VENDOR_LIBRARY_DIRS=empty
doctor no-device MUJOCO_EGL_DEVICE_ID=9
doctor damaged-libraries LD_LIBRARY_PATH=damaged
doctor chosen-osmesa MUJOCO_GL=osmesa
doctor chosen-opengl MUJOCO_GL=opengl
doctor_without no-egl 'libEGL.so*'
doctor_without no-gl 'libOpenGL.so*' 'libGL.so*' 'libGLES*'
doctor osmesa-too "LD_LIBRARY_PATH=osmesa$libraries"
doctor back-again
