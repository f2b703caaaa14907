#!/bin/sh
# Makes on a Kafka without Strimzi what topics.yaml and users.yaml make: the topic, and the rights of
# the service and of KEDA; with --migrate also those of components/migration. May be repeated: a topic that exists is left as it is, with whatever
# settings it has (`workflows-sink check` looks at them). Kafka's own scripts are looked for on the
# PATH.
# Arguments: [--dry-run] [--replicas N] [--migrate USER] BOOTSTRAP SINK KEDA [ADMIN_CONFIG]
#
# SINK, KEDA and the USER who migrates are the users as the broker knows them: User:workflows-sink with a password,
# User:CN=workflows-sink with a certificate. ADMIN_CONFIG is a file with the client properties of an
# administrator. Passwords are not made here; kafka-configs.sh takes one from a file
# (--add-config-file), which no process list shows.
set -eu

usage() {
    echo "arguments: [--dry-run] [--replicas N] [--migrate USER] BOOTSTRAP SINK KEDA [ADMIN_CONFIG]" >&2
    exit 2
}

dry_run=
replicas=3
migrate=
while :; do
    case ${1-} in
    --dry-run) dry_run=1 ;;
    --replicas)
        [ $# -gt 1 ] || usage
        replicas=$2
        shift
        ;;
    --migrate)
        [ $# -gt 1 ] || usage
        migrate=$2
        shift
        ;;
    *) break ;;
    esac
    shift
done
if [ $# -lt 3 ] || [ $# -gt 4 ]; then
    usage
fi
bootstrap=$1 sink=$2 keda=$3 admin_config=${4-}
topic=dyff.workflows.state
events=dyff.workflows.events
group=dyff.system.mongodb.sink
# One of two could not be lost without a standstill.
in_sync=1
[ "$replicas" -lt 3 ] || in_sync=2

run() {
    script=$1
    shift
    set -- "$script" --bootstrap-server "$bootstrap" ${admin_config:+--command-config "$admin_config"} "$@"
    if [ -n "$dry_run" ]; then
        echo "$*"
    else
        "$@"
    fi
}

run kafka-topics.sh --create --if-not-exists --topic "$topic" --partitions 12 --replication-factor "$replicas" \
    --config cleanup.policy=compact --config compression.type=zstd --config min.insync.replicas=$in_sync \
    --config retention.ms=-1 --config retention.bytes=-1 --config delete.retention.ms=2592000000

run kafka-acls.sh --add --allow-principal "$sink" --topic "$topic" --operation Read --operation DescribeConfigs
run kafka-acls.sh --add --allow-principal "$sink" --group "$group" --operation Read
run kafka-acls.sh --add --allow-principal "$keda" --topic "$topic" --operation Describe
run kafka-acls.sh --add --allow-principal "$keda" --group "$group" --operation Describe
if [ -n "$migrate" ]; then
    run kafka-acls.sh --add --allow-principal "$migrate" --topic "$events" \
        --operation Read --operation Write --operation DescribeConfigs
    run kafka-acls.sh --add --allow-principal "$migrate" --topic "$topic" --operation Read
    run kafka-acls.sh --add --allow-principal "$migrate" --group "$group" --operation Describe
fi
