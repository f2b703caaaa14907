# shellcheck shell=sh
# Sets up the machine in the folder TREE and runs a command there. Arguments: TREE COMMAND…
# Run by run.sh, in namespaces of its own. How this system reaches the package registries comes
# along: from apt's configuration, the environment and the clients' files.
set -eu
tree=$1
shift
SUITE=bookworm
HOME_FILES=".m2/settings.xml .config/pip/pip.conf .pip/pip.conf .config/go/env"
# Variables that say how to reach a registry, and not where something of this system is.
CLIENTS='_(proxy|PROXY)$|CERT|CA_BUNDLE|CAINFO|^PIP_|^CARGO_(HTTP|NET|SOURCE)_'
CLIENTS="$CLIENTS|^GO(PROXY|SUMDB|NOSUMDB|PRIVATE|NOPROXY|INSECURE|FLAGS|TOOLCHAIN)$"
CLIENTS="$CLIENTS|^MAVEN_(OPTS|ARGS)$|^JAVA_TOOL_OPTIONS$"

rust=$(rustc --print sysroot)
if [ "$rust" = /usr ]; then
    echo "needs a Rust in a folder of its own, as rustup installs it" >&2
    exit 69
fi
eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
# shellcheck disable=SC2016 # apt-get fills them in
mirror=$(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' |
    awk '$2 !~ /-/ && $3 == "main" { print $1; exit }')
echo "== Debian $SUITE in $tree"
mkdir -p "$tree"
# A mount of its own, since tests remount the root.
mount --bind "$tree" "$tree"
http_proxy=${http_proxy-} https_proxy=${https_proxy-} \
    debootstrap --variant=minbase --include=make,ca-certificates "$SUITE" "$tree" "$mirror" \
    >"$tree.log" || { tail -n 20 "$tree.log" "$tree/debootstrap/debootstrap.log" >&2; exit 1; }

# Copies a file or folder of this system to the same place, unless something is there.
bring() {
    [ ! -e "$1" ] || [ -e "$tree$1" ] || { mkdir -p "$tree${1%/*}" && cp -rL "$1" "$tree$1"; }
}
apt-config dump | grep '^Acquire::' >"$tree/etc/apt/apt.conf.d/99acquire"
cp /etc/hosts "$tree/etc/hosts"
certificates=/usr/local/share/ca-certificates
[ ! -d "$certificates" ] || cp -r "$certificates/." "$tree$certificates"
chroot "$tree" update-ca-certificates >/dev/null 2>&1
bring /etc/pip.conf
for file in $HOME_FILES; do
    [ ! -e "$HOME/$file" ] || install -D -m 600 "$HOME/$file" "$tree/root/$file"
done
config=${CARGO_HOME:-$HOME/.cargo}/config.toml
[ ! -e "$config" ] || install -D "$config" "$tree/root/.cargo/config.toml"
export HOME=/root LANG=C.UTF-8
# shellcheck disable=SC2013 # a name is one word
for variable in $(awk -v keep="$CLIENTS|^(HOME|LANG|PATH)\$" 'BEGIN {
    for (name in ENVIRON) if (name ~ /^[A-Za-z_][A-Za-z_0-9]*$/ && name !~ keep) print name
}'); do
    unset "$variable"
done
for path in $(env | sed -n 's|^[A-Za-z_]*=\(/[^ :]*\)$|\1|p'); do
    bring "$path"
done

git clone --quiet --no-hardlinks . "$tree/root/workflows-sink"
mkdir -p "$tree/opt/rust"
mount --bind "$rust" "$tree/opt/rust"
mount -o remount,bind,ro "$tree/opt/rust"
mount -t proc proc "$tree/proc"
mount -t sysfs -o ro sysfs "$tree/sys"
mount -t tmpfs tmpfs "$tree/dev/shm"
mount -t devpts -o newinstance,mode=620,ptmxmode=666 devpts "$tree/dev/pts"
echo "== $*"
export PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
chroot "$tree" sh -c 'cd /root/workflows-sink && exec "$@"' command "$@"
