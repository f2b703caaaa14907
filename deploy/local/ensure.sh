# shellcheck shell=sh
# Makes sure that what is used here of Debian packages works. Arguments: PACKAGE…
# Installs those that do not work when it may, otherwise prints the one line to type.
set -eu

# Tries what is used of a package. That its command exists is not enough: Debian's perl-base brings
# a perl without the modules that OpenSSL's Configure needs, and its gcc comes without C headers.
works() {
    case $1 in
    g++) compiles cc c stdlib.h && compiles c++ c++ string ;;
    make | git | shellcheck) "$1" --version ;;
    perl) perl -MFindBin -MFile::Compare -MFile::Copy -MIPC::Cmd -MPod::Usage -MScalar::Util -e 1 ;;
    # Kafka's broker is compiled for Java 17.
    default-jre-headless) [ "$(java --version | sed -n '1s/^[^ ]* \([0-9]*\).*/\1/p')" -ge 17 ] ;;
    maven) mvn --version ;;
    dnsmasq-base) dnsmasq --version ;;
    golang-go) go version ;;
    python3-pip) pip3 --version && python3 -c 'import zipfile' ;;
    # Its libraries: mongod links them. Each release names their packages differently.
    curl) PATH=$PATH:/usr/sbin:/sbin ldconfig -p | grep -q 'libcurl\.so\.4' ;;
    apt) apt-get --version && dpkg-deb --version ;;
    buildah | umoci | skopeo | runc | debootstrap) "$1" --version ;;
    binutils) readelf --version && strings --version ;;
    openssl) openssl version ;;
    # Debian's, whichever other comes first on the PATH.
    python3-yaml) /usr/bin/python3 -c 'import yaml' ;;
    valgrind) valgrind --tool=callgrind --callgrind-out-file=/dev/null true ;;
    *) command -v "$1" ;;
    esac </dev/null >/dev/null 2>&1
}

# Whether compiler $1 compiles and links a program in language $2 that includes $3.
compiles() {
    printf '#include <%s>\nint main() { return 0; }\n' "$3" | "$1" -x "$2" - -o /dev/null
}

failing() {
    for package; do
        works "$package" || printf ' %s' "$package"
    done
}

packages=$(failing "$@")
[ -n "$packages" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "missing or incomplete: please install$packages with this system's package manager" >&2
    exit 69
fi
if [ "$(id -u)" != 0 ]; then
    install="sudo apt-get update && sudo apt-get install -y$packages"
    echo "missing or incomplete; please type: $install" >&2
    exit 69
fi
# Several builds may install at the same time, and apt-get update does not wait for its lock.
exec 9>/run/lock/workflows-sink-apt
flock 9
echo "installing$packages" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update >&2
# shellcheck disable=SC2086 # one word a package
apt-get -qq -o DPkg::Lock::Timeout=300 -o DPkg::Options::=--force-confold \
    install -y --no-install-recommends $packages >/dev/null
# shellcheck disable=SC2086
packages=$(failing $packages)
if [ -n "$packages" ]; then
    echo "installed, but still incomplete:$packages" >&2
    exit 69
fi
