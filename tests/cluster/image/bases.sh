# shellcheck shell=sh disable=SC2154
# The stand-ins of the images that the Dockerfile begins with, made of Debian's packages: nothing is
# pulled from a registry of images. Sourced by image.sh, which says where $store, $run and $work are.

SUITE=trixie
# What the real one has of its Debian that is used here.
BUILD_PACKAGES=ca-certificates,dpkg-dev,g++,gcc,libc6-dev,make,perl
# What the real one is made of.
LAST_PACKAGES="base-files netbase tzdata media-types libc6 libgcc-s1 libgomp1 libstdc++6"
# Another processor's standard library is only had for Debian's own Rust, and a release's is too old.
CROSS_SUITE=testing
CROSS_PACKAGES="cargo rustc libstd-rust-dev:arm64 gcc g++ make perl gcc-aarch64-linux-gnu \
g++-aarch64-linux-gnu qemu-user"

in_store() {
    command=$1
    shift
    buildah --root "$store" --runroot "$run" "$command" "$@"
}

# The names behind FROM that are no stages, without a digest.
base_names() {
    sed -n 's/^FROM \([^ @]*:[^ @]*\).*/\1/p' deploy/image/Dockerfile
}

# A shell does not end at a failure inside a condition, so what must not fail here says `|| return`.

# Tags what the function $2 makes with the name $1. It is kept by a checksum of these lines, of this
# Rust and of the month, since packages get updates.
stand_in() {
    sum=$( (cat tests/cluster/image/bases.sh && rustc -vV && date -u +%Y-%m) | sha256sum | cut -c 1-12)
    kept=localhost/$2:$sum
    if ! in_store inspect --type image "$kept" >/dev/null 2>&1; then
        echo "making a stand-in of $1" >&2
        container=$(in_store from scratch)
        tree=$(in_store mount "$container")
        "$2" "$tree" "$container" >"$work/$2.log" 2>&1 || {
            tail -n 20 "$work/$2.log" >&2
            in_store rm "$container" >/dev/null
            return 1
        }
        in_store umount "$container" >/dev/null
        in_store commit --quiet --timestamp 0 --rm "$container" "$kept" >/dev/null
        for old in $(in_store images --format '{{.Name}}:{{.Tag}}' | grep "^localhost/$2:"); do
            [ "$old" = "$kept" ] || in_store rmi "$old" >/dev/null
        done
    fi
    in_store tag "$kept" "$(full_name "$1")"
}

# A name without a host is Docker Hub's.
full_name() {
    case $1 in
    */*) echo "$1" ;;
    *) echo "docker.io/library/$1" ;;
    esac
}

# Where this machine gets Debian from.
mirror() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' |
        awk '$2 !~ /-/ && $3 == "main" { print $1; exit }'
}

# A Debian in the folder $2 of the suite $1 with the packages $3. What this machine trusts comes
# along, for the package registries.
debian() {
    http_proxy=$(apt-config dump | sed -n 's/^Acquire::http::Proxy "\(.*\)";$/\1/p') \
        debootstrap --variant=minbase --include="$3" "$1" "$2" "$(mirror)" || return 1
    apt-config dump | grep '^Acquire::' >"$2/etc/apt/apt.conf.d/99acquire"
    certificates=/usr/local/share/ca-certificates
    [ ! -d "$certificates" ] || cp -r "$certificates/." "$2$certificates"
    chroot "$2" update-ca-certificates
    rm -rf "$2"/var/cache/apt/archives/*.deb
}

# As rust:VERSION-trixie: this machine's Rust in the same place.
rust_base() {
    debian $SUITE "$1" $BUILD_PACKAGES || return 1
    rust=$1/usr/local/rustup/toolchains/this
    mkdir -p "$rust/share/doc" "$1/usr/local/cargo/bin"
    sysroot=$(rustc --print sysroot)
    cp -r "$sysroot/bin" "$sysroot/lib" "$rust" || return 1
    for tool in cargo rustc rustdoc; do
        ln -s "/usr/local/rustup/toolchains/this/bin/$tool" "$1/usr/local/cargo/bin/$tool"
    done
    in_store config --env RUSTUP_HOME=/usr/local/rustup --env CARGO_HOME=/usr/local/cargo \
        --env PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$2"
}

# As distroless' cc: packages that are unpacked and not installed, and a user who is not root.
last_base() {
    downloads=$work/packages
    mkdir -p "$downloads"
    with=$(in_store from --pull-never "$(full_name "$(base_names | head -n 1)")")
    in_store run --isolation chroot --volume "$downloads:/packages" "$with" -- \
        sh -ec "apt-get -qq update; cd /packages; apt-get -qq download $LAST_PACKAGES ca-certificates" ||
        return 1
    in_store rm "$with"
    # base-files has the links from /lib to /usr/lib, and comes first.
    for package in $LAST_PACKAGES; do
        dpkg-deb -x "$downloads/${package}_"*.deb "$1" || return 1
    done
    dpkg-deb -x "$downloads"/ca-certificates_*.deb "$work/authorities"
    mkdir -p "$1/etc/ssl/certs" "$1/home/nonroot" "$1/tmp"
    # Its documentation has an example, which is no certificate.
    find "$work/authorities/usr/share/ca-certificates" -name '*.crt' | sort | xargs cat \
        >"$1/etc/ssl/certs/ca-certificates.crt"
    chmod 1777 "$1/tmp"
    chown 65532:65532 "$1/home/nonroot"
    printf '%s\n' root:x:0:0:root:/root:/sbin/nologin \
        nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin >"$1/etc/passwd"
    printf '%s\n' root:x:0: nonroot:x:65532: >"$1/etc/group"
    rm -rf "$1/usr/share/doc-base" "$1/usr/share/man" "$1/usr/share/locale"
    in_store config --user 65532 --workingdir /home/nonroot \
        --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$2"
}

# A Debian that compiles for arm64 and runs what it made.
cross_base() {
    debian $CROSS_SUITE "$1" ca-certificates || return 1
    chroot "$1" dpkg --add-architecture arm64
    in_store run --isolation chroot "$2" -- sh -ec "
        apt-get -qq update
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
            $CROSS_PACKAGES
        apt-get clean
        rm -rf /usr/share/doc /var/lib/apt/lists/*"
}
