#!/bin/sh
# Builds the image twice from deploy/image/Dockerfile, compares both, looks at what is in it, and
# runs it as the pod does. No image is pulled: both bases are stand-ins (image/bases.sh).
#
#   tests/cluster/image.sh           a line a check; what is left out is said
#   AGAIN=no tests/cluster/image.sh  without the second build
#
# What it builds is kept in the cache, by a checksum of what goes into it.
set -eu
cd "$(dirname "$0")/../.."
UNPACKED_MB_MAX=80
COMPRESSED_MB_MAX=40
FREE_GB_MIN=12
DNS=127.0.0.54
TLS_PORT=19093
failures=0

say() { printf '%-8s %s\n' "$@"; }
good() { say ok "$1"; }
bad() {
    say FAILED "$1"
    failures=$((failures + 1))
}
left_out() { say 'LEFT OUT' "$1"; }
# What is checked, and a command that holds or does not.
check() {
    what=$1
    shift
    if "$@"; then good "$what"; else bad "$what"; fi
}

if [ "$(id -u)" != 0 ]; then
    left_out "the image: only root can build and run one here"
    exit 0
fi
sh deploy/local/ensure.sh buildah umoci skopeo runc debootstrap binutils openssl dnsmasq-base \
    python3-yaml || {
    left_out "the image: the packages named above are not to be had"
    exit 0
}
# Debian's, and not another one that has no yaml.
python=/usr/bin/python3

cache=${XDG_CACHE_HOME:-$HOME/.cache}/workflows-sink/image
mkdir -p "$cache"
exec 9>"$cache.lock"
flock 9
store=$cache/store
work=$(mktemp -d "$cache/work.XXXXXX")
run=$work/run
running=
end() {
    for process in $running; do
        kill "$process" || true
    done
    runc --root "$work/runc" delete --force sink || true
    # A build that was broken off leaves its tree mounted.
    awk -v store="$store/" 'index($5, store) == 1 { print $5 }' /proc/self/mountinfo | sort -r |
        xargs -r umount || true
    rm -rf --one-file-system "$work"
} >/dev/null 2>&1
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
# shellcheck source=tests/cluster/image/bases.sh
. tests/cluster/image/bases.sh

free_gb() { df --output=avail --block-size=1G "$cache" | tail -n 1 | tr -d ' '; }
if [ "$(free_gb)" -lt $FREE_GB_MIN ]; then
    left_out "the image: needs $FREE_GB_MIN GB free in $cache"
    exit 0
fi

# What COPY takes in, as it is here, and the stand-ins.
checksum() {
    {
        cat tests/cluster/image/bases.sh
        rustc -vV
        git ls-files -z --cached --others --exclude-standard -- Cargo.toml Cargo.lock LICENSE \
            build.rs config src deploy/image deploy/local deploy/migrate benches tests/oracles tests/support |
            xargs -0 sha256sum
    } | sha256sum | cut -c 1-12
}

# Builds the target $1 of the Dockerfile; the last one without a name.
build_target() {
    TMPDIR=$work/tmp in_store build --isolation chroot --pull-never --layers --timestamp 0 \
        --file deploy/image/Dockerfile --ignorefile deploy/image/Dockerfile.dockerignore \
        ${1:+--target $1} --build-arg REVISION="$revision" \
        --tag "localhost/workflows-sink-${1:-image}" . >"$work/build.log" 2>&1 || {
        tail -n 40 "$work/build.log" >&2
        return 1
    }
}

# Keeps the image of the target $1 as the OCI folder $2.
keep() {
    rm -rf "$2.part"
    in_store push --quiet "localhost/workflows-sink-$1" "oci:$2.part:image" || return 1
    in_store rmi "localhost/workflows-sink-$1" >/dev/null
    mv "$2.part" "$2"
}

# Builds into the OCI folder $1, and into $1-migrate if $2 is `migrate`. The first keeps the layers
# of `tools`, and nothing else is shared with the second: the caches that RUN mounts lie in TMPDIR.
build() {
    began=$(date +%s)
    mkdir -p "$work/tmp"
    for target in tools '' ${2-}; do
        build_target "$target" || return 1
    done
    [ -z "${2-}" ] || keep "$2" "$1-$2" || return 1
    keep image "$1" || return 1
    in_store rmi --prune >/dev/null
    rm -rf "$work/tmp"
    say built "in $(($(date +%s) - began)) s"
}

config() { skopeo inspect --config "oci:$1:image"; }
# A value of an image's configuration, by a Python expression of `config`.
of_config() {
    config "$1" | "$python" -c "import json, sys; config = json.load(sys.stdin); print($2)"
}
equal() {
    [ "$1" = "$2" ] || {
        printf '%s\n' "         has:    $1" "         wanted: $2"
        return 1
    }
}

make_image() {
    first=$cache/first-$(checksum)
    second=$cache/second-$(checksum)
    revision=$(git rev-parse --short=12 HEAD)
    for old in "$cache"/first-* "$cache"/second-*; do
        case $old in "$first" | "$first-migrate" | "$second") ;; *) rm -rf "$old" ;; esac
    done
    if [ -d "$first" ]; then
        revision=$(of_config "$first" "config['config']['Labels']['org.opencontainers.image.revision']")
    fi
    if [ ! -d "$first" ] || { [ ! -d "$second" ] && [ "${AGAIN-}" != no ]; }; then
        # What a build that was broken off has left.
        in_store rm --all >/dev/null
        stand_in "$(base_names | head -n 1)" rust_base
        stand_in "$(base_names | tail -n 1)" last_base
    fi
    [ -d "$first" ] || build "$first" migrate
    if [ "${AGAIN-}" = no ] && [ ! -d "$second" ]; then
        left_out "whether two builds are the same: AGAIN=no"
    else
        [ -d "$second" ] || build "$second"
        check "two builds have the same layers" equal \
            "$(of_config "$second" "config['rootfs']['diff_ids']")" \
            "$(of_config "$first" "config['rootfs']['diff_ids']")"
        check "two builds have the same digest" equal \
            "$(skopeo inspect --format '{{.Digest}}' "oci:$second:image")" \
            "$(skopeo inspect --format '{{.Digest}}' "oci:$first:image")"
    fi
    umoci unpack --image "$first:image" "$work/bundle" >/dev/null 2>&1
    root=$work/bundle/rootfs
}

megabytes() { du -s --apparent-size --block-size=1M "$1" | cut -f 1; }
at_most() { [ "$1" -le "$2" ]; }
at_least() { [ "$1" -ge "$2" ]; }

look_at_size() {
    compressed=$(megabytes "$first/blobs")
    unpacked=$(megabytes "$root")
    check "compressed it has $compressed MB, of $COMPRESSED_MB_MAX" at_most "$compressed" $COMPRESSED_MB_MAX
    check "unpacked it has $unpacked MB, of $UNPACKED_MB_MAX" at_most "$unpacked" $UNPACKED_MB_MAX
    say '' "the program has $(megabytes "$root/usr/local/bin/workflows-sink") MB"
}

# Whether there is no section of symbols or of debugging in a program.
stripped() { ! readelf --wide --section-headers "$1" | grep -E '\.(symtab|debug_[a-z]+) '; }
# The date of a build, as OpenSSL has it.
dated() { strings "$1" | grep '^built on: '; }

look_at_program() {
    program=$root/usr/local/bin/workflows-sink
    check "the program has no symbols" stripped "$program"
    check "OpenSSL's date is that of SOURCE_DATE_EPOCH" equal \
        "$(dated "$program")" "built on: Thu Jan  1 00:00:01 1970 UTC"
    needs=$(readelf --dynamic "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort | paste -sd ' ')
    check "it needs glibc and libgcc alone: $needs" equal \
        "$(echo "$needs" | tr ' ' '\n' | grep -vE '^(ld-linux-.*|libc|libgcc_s|libm)\.so')" ""
    authorities=$(of_config "$first" \
        "dict(v.split('=', 1) for v in config['config']['Env'])['SSL_CERT_FILE']")
    # As many as are read, and not as are there: behind one that is broken OpenSSL reads none.
    read=$(openssl crl2pkcs7 -nocrl -certfile "$root$authorities" |
        openssl pkcs7 -print_certs -noout | grep -c '^subject=') || true
    check "OpenSSL reads the $read authorities in SSL_CERT_FILE" at_least "$read" 100
    check "there is no shell" test ! -e "$root/bin/sh" -a ! -e "$root/bin/bash"
    for mode in 2000 4000 0002; do
        found=$(find "$root" -xdev -type f -perm -$mode)
        check "no file has a mode of $mode" equal "$found" ""
    done
}

look_at_config() {
    check "user" equal "$(of_config "$first" "config['config']['User']")" 65532:65532
    check "command" equal "$(of_config "$first" "config['config']['Entrypoint'] + config['config']['Cmd']")" \
        "['workflows-sink', 'run']"
    check "created is no time of a build" equal "$(of_config "$first" "config['created'][:19]")" 1970-01-01T00:00:00
    version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
    description=$(sed -n 's/^description = "\(.*\)"/\1/p' Cargo.toml)
    license=$(sed -n '/^\[workspace.package\]/,/^$/s/^license = "\(.*\)"/\1/p' Cargo.toml)
    while IFS='|' read -r label wanted; do
        check "label $label" equal \
            "$(of_config "$first" "config['config']['Labels']['org.opencontainers.image.$label']")" "$wanted"
    done <<LABELS
title|workflows-sink
description|$description
version|$version
revision|$revision
licenses|$license
LABELS
}

# What is in the program of the package $1, by the documents in the root $2.
look_at_documents() {
    documents=$2/usr/share/doc/$1
    # The same question as in about.sh, asked here.
    cargo tree --locked --package "$1" --target "$(rustc -vV | sed -n 's/^host: //p')" \
        --edges normal,no-proc-macro --prefix none --format '{p}' |
        sed -n 's/^\([^ ]*\) v\([^ ]*\).*/\1 \2/p' | sort -u | grep -v "^$1 " >"$work/expected"
    check "the SBOM is CycloneDX of $1's packages, and of C's libraries" \
        "$python" tests/cluster/image/sbom.py "$documents/sbom.cdx.json" "$work/expected" "$1"
    licences=$documents/THIRD-PARTY-LICENSES
    grep -vE '^(workflows-sink|datastore-export) ' "$work/expected" | grep -vxFf "$licences" \
        >"$work/unnamed" || true
    check "the licence of each package is there" equal "$(cat "$work/unnamed")" ""
    for words in 'The OpenSSL|Apache License' LICENSE.lz4 LICENSE.snappy LICENSE.cjson 'Jean-loup Gailly' \
        'Meta Platforms'; do
        check "licences: $words" grep -qE "$words" "$licences"
    done
    check "our own licence is there" cmp -s LICENSE "$documents/LICENSE"
    say '' "SBOM and licences have $(megabytes "$documents") MB"
}

# Gives the bundle what the manifest says of the container, with [NAME=VALUE…] -- COMMAND…
as_the_pod() {
    "$python" tests/cluster/image/pod.py "$work/bundle/config.json" "$work/resolv.conf" \
        "$work/ca-certificates.crt" "$@"
}
# Runs a command of the program in the image: [NAME=VALUE…] -- COMMAND…
container() {
    as_the_pod "$@"
    timeout 120 runc --root "$work/runc" run --bundle "$work/bundle" sink </dev/null
}
# Runs it, and keeps what it said, however it ended: `check` ends with an error here.
told() {
    container "$@" >"$work/told" 2>&1 || true
}
says() { grep -qE -- "$1" "$work/told" || { sed 's/^/         /' "$work/told" | tail -n 20; return 1; }; }

run_in_it() {
    : >"$work/resolv.conf"
    told -- --version
    check "it says its version and commit" says "^workflows-sink $version \($revision\)$"
    told -- config reference
    check "its commands run read-only: config reference" says DYFF_WORKFLOWS_SINK__BUDGET_BYTES_MAX

    as_the_pod DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING='mongodb://127.0.0.1:1/?replicaSet=rs0' \
        DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS=127.0.0.1:1 -- run
    timeout 60 runc --root "$work/runc" run --pid-file "$work/pid" --bundle "$work/bundle" sink \
        </dev/null >"$work/told" 2>&1 &
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ ! -s "$work/pid" ] || break
        sleep 1
    done
    process=/proc/$(cat "$work/pid")
    # It replaces itself once, for the allocator's sake.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        ! grep -qz ^MALLOC_MMAP_THRESHOLD_= "$process/environ" || break
        sleep 1
    done
    cp "$process/status" "$process/mountinfo" "$work"
    runc --root "$work/runc" kill sink KILL
    wait $! || true
    status() { sed -n "s/^$1:[[:space:]]*//p" "$work/status" | tr -s '\t' ' '; }
    check "it stays and is the program" equal "$(status Name)" workflows-sink
    check "its user" equal "$(status Uid)" "65532 65532 65532 65532"
    check "its group" equal "$(status Gid)" "65532 65532 65532 65532"
    for set in CapInh CapPrm CapEff CapBnd CapAmb; do
        check "no capability: $set" equal "$(status $set)" 0000000000000000
    done
    check "no new privileges" equal "$(status NoNewPrivs)" 1
    check "a root that is read-only" equal "$(awk '$5 == "/" { print substr($6, 1, 2) }' "$work/mountinfo")" ro
    left_out "seccomp's RuntimeDefault: the profile is the node's"
}

# The image of the migration: no pod of ours, so its configuration is tried as it is.
look_at_migration() {
    umoci unpack --image "$first-migrate:image" "$work/migration" >/dev/null 2>&1
    program=$work/migration/rootfs/usr/local/bin/datastore-migrate
    check "migration: the program has no symbols" stripped "$program"
    check "migration: user" equal "$(of_config "$first-migrate" "config['config']['User']")" 65532:65532
    check "migration: command" equal "$(of_config "$first-migrate" "config['config']['Entrypoint']")" \
        "['datastore-migrate']"
    check "migration: label revision" equal "$(of_config "$first-migrate" \
        "config['config']['Labels']['org.opencontainers.image.revision']")" "$revision"
    check "migration: nothing of the sink" test ! -e "$work/migration/rootfs/usr/local/bin/workflows-sink"
    look_at_documents datastore-migrate "$work/migration/rootfs"
    "$python" - "$work/migration/config.json" <<'CONFIG'
import json, sys
config = json.load(open(sys.argv[1]))
config["process"].update(args=["datastore-migrate", "--version"], terminal=False)
config["root"]["readonly"] = True
json.dump(config, open(sys.argv[1], "w"))
CONFIG
    timeout 60 runc --root "$work/runc" run --bundle "$work/migration" migration \
        </dev/null >"$work/told" 2>&1 || true
    check "migration: it runs read-only and says its version" says "^datastore-migrate $version"
}

certificate() {
    (
        cd "$work"
        key() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "$@"; }
        key -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.crt
        key -subj /CN=localhost -keyout server.key -out server.csr
        echo 'subjectAltName=DNS:localhost,IP:127.0.0.1' >extensions
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
            -extfile extensions -out server.crt
    ) >"$work/certificate.log" 2>&1
}

MONGODB='DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING=mongodb://127.0.0.1:1/?replicaSet=rs0&serverSelectionTimeoutMS=1000'

trust_authorities() {
    certificate
    openssl s_server -accept 127.0.0.1:$TLS_PORT -cert "$work/server.crt" -key "$work/server.key" -www \
        -state </dev/null >"$work/server.log" 2>&1 &
    running="$running $!"
    kafka="DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS=localhost:$TLS_PORT"
    told "$MONGODB" "$kafka" DYFF_KAFKA__CONFIG__SECURITY_PROTOCOL=SSL -- check
    check "a Kafka whose authority is unknown is not verified" says 'certificate verify failed'
    check "and is refused" says 'Kafka refuses the connection'
    check "no handshake was completed" test "$(grep -c 'read finished' "$work/server.log")" = 0

    cat "$root/etc/ssl/certs/ca-certificates.crt" "$work/ca.crt" >"$work/ca-certificates.crt"
    told "$MONGODB" "$kafka" DYFF_KAFKA__CONFIG__SECURITY_PROTOCOL=SSL -- check
    check "with its authority in the same file it is trusted" grep -q 'read finished' "$work/server.log"
    rm "$work/ca-certificates.crt"
}

follow_names() {
    dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --pid-file= --user=root \
        --listen-address=$DNS --bind-interfaces --log-queries --log-facility=- --local=/sink.test/ \
        --srv-host=_mongodb._tcp.mongo.sink.test,member-0.sink.test,27117 \
        --host-record=member-0.sink.test,127.0.0.1 >"$work/dns.log" 2>&1 &
    running="$running $!"
    echo "nameserver $DNS" >"$work/resolv.conf"
    told 'DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING=mongodb+srv://mongo.sink.test/?replicaSet=rs0&ssl=false&serverSelectionTimeoutMS=1000' \
        DYFF_KAFKA__CONFIG__BOOTSTRAP_SERVERS=127.0.0.1:1 -- check
    check "an SRV name leads to its members" says 'Address: member-0.sink.test:27117'
    check "glibc in the image finds the members' addresses" says 'member-0.sink.test:27117.*Connection refused'
}

# Whether the same sources make a program for arm64. The second processor of the image is not built
# here as the image is: its bases would have to run.
build_for_arm64() {
    target=aarch64-unknown-linux-gnu
    stand_in localhost/cross cross_base || {
        left_out "arm64: Debian's Rust for it is not to be had"
        return
    }
    with=$(in_store from --pull-never localhost/cross)
    mkdir -p "$work/arm64"
    began=$(date +%s)
    # No symbols, and no optimisation: whether it builds is asked, and its own size is not.
    in_store run --isolation chroot --volume "$PWD:/build:ro" --volume "$work/arm64:/arm64" \
        --workingdir /build --env CARGO_HOME=/arm64/cargo --env CARGO_TARGET_DIR=/arm64/target \
        --env CARGO_PROFILE_DEV_DEBUG=false --env WORKFLOWS_SINK_REVISION="$revision" \
        --env CC=aarch64-linux-gnu-gcc --env CXX=aarch64-linux-gnu-g++ \
        --env HOST_CC=gcc --env HOST_CXX=g++ \
        --env CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc "$with" -- \
        cargo build --quiet --locked --target $target --bin workflows-sink \
        >"$work/arm64.log" 2>&1 || tail -n 20 "$work/arm64.log" >&2
    program=$work/arm64/target/$target/debug/workflows-sink
    check "it builds for arm64, in $(($(date +%s) - began)) s" test -x "$program"
    machine=$(readelf --file-header "$program" | sed -n 's/^ *Machine: *//p')
    check "the program for arm64 is one" equal "$machine" AArch64
    in_store run --isolation chroot --volume "$work/arm64:/arm64" "$with" -- \
        qemu-aarch64 -L /usr/aarch64-linux-gnu "/arm64/target/$target/debug/workflows-sink" \
        --version >"$work/told" 2>&1 || true
    check "it runs there (emulated)" says "^workflows-sink $version \($revision\)"
    in_store rm "$with" >/dev/null
    left_out "arm64: Rust 1.95 and the release profile; Debian's $CROSS_SUITE and the dev profile instead"
}

make_image
look_at_size
look_at_program
look_at_config
look_at_documents workflows-sink "$root"
run_in_it
look_at_migration
trust_authorities
follow_names
build_for_arm64
[ $failures = 0 ] || { say FAILED "$failures checks"; exit 1; }
