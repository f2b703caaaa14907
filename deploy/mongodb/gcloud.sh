#!/bin/sh
# Makes in Google Cloud what backups need: a bucket, the service accounts, and who may act as them.
# May be repeated: what is there already is left as it is. Arguments: [--dry-run] [--hmac] PROJECT
# BUCKET REGION
#
# --dry-run only prints the commands. --hmac makes a key for the S3-compatible API too, and the
# Secret that holds it (components/backup-s3); Workload Identity needs none.
set -eu
dry_run=
hmac=
while :; do
    case ${1-} in
    --dry-run) dry_run=1 ;;
    --hmac) hmac=1 ;;
    *) break ;;
    esac
    shift
done
if [ $# != 3 ]; then
    echo "arguments: [--dry-run] [--hmac] PROJECT BUCKET REGION" >&2
    exit 2
fi
project=$1 bucket=$2 region=$3
backup=mongodb-backup@$project.iam.gserviceaccount.com
admin=mongodb-admin@$project.iam.gserviceaccount.com

run() {
    if [ -n "$dry_run" ]; then
        echo "$*"
    else
        "$@"
    fi
}

# Whether something is there; in a dry run it is taken to be missing.
there() {
    [ -z "$dry_run" ] && "$@" >/dev/null 2>&1
}

# No object is public, and one that was deleted by mistake can be had back for a week.
there gcloud storage buckets describe "gs://$bucket" ||
    run gcloud storage buckets create "gs://$bucket" --project="$project" --location="$region" \
        --uniform-bucket-level-access --public-access-prevention --soft-delete-duration=7d

for account in mongodb-backup mongodb-admin; do
    there gcloud iam service-accounts describe "$account@$project.iam.gserviceaccount.com" --project="$project" ||
        run gcloud iam service-accounts create "$account" --project="$project"
done

# The members of the cluster write and delete backups, in this bucket alone; an administrator reads
# them.
run gcloud storage buckets add-iam-policy-binding "gs://$bucket" \
    --member="serviceAccount:$backup" --role=roles/storage.objectAdmin
run gcloud storage buckets add-iam-policy-binding "gs://$bucket" \
    --member="serviceAccount:$admin" --role=roles/storage.objectViewer
run gcloud projects add-iam-policy-binding "$project" \
    --member="serviceAccount:$admin" --role=roles/container.viewer --condition=None

# Workload Identity: which ServiceAccount of the cluster (namespace/name) is which account of the
# cloud.
run gcloud iam service-accounts add-iam-policy-binding "$backup" --project="$project" \
    --member="serviceAccount:$project.svc.id.goog[mongodb/dyff-datastore]" --role=roles/iam.workloadIdentityUser
run gcloud iam service-accounts add-iam-policy-binding "$admin" --project="$project" \
    --member="serviceAccount:$project.svc.id.goog[mongodb/mongodb-admin]" --role=roles/iam.workloadIdentityUser

[ -n "$hmac" ] || exit 0
secret=dyff-datastore-backup-s3
if [ -n "$dry_run" ]; then
    echo "gcloud storage hmac create $backup --project=$project"
    echo "kubectl create secret generic $secret --namespace mongodb --from-file=… (the key, in files)"
    exit 0
fi
# A key that no Secret takes would be lost, and stay valid.
kubectl get namespace mongodb >/dev/null
found=$(kubectl get secret "$secret" --namespace mongodb --ignore-not-found --output name)
if [ -n "$found" ]; then
    echo "the Secret $secret is there: no other key is made"
    exit 0
fi
# The key is shown once. It goes into the Secret by way of files that nobody else can read, and not
# through arguments.
umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
gcloud storage hmac create "$backup" --project="$project" --format='value(metadata.accessId,secret)' >"$work/key"
cut -f 1 "$work/key" | tr -d '\n' >"$work/AWS_ACCESS_KEY_ID"
cut -f 2 "$work/key" | tr -d '\n' >"$work/AWS_SECRET_ACCESS_KEY"
kubectl create secret generic "$secret" --namespace mongodb \
    --from-file="$work/AWS_ACCESS_KEY_ID" --from-file="$work/AWS_SECRET_ACCESS_KEY" || {
    gcloud storage hmac update "$(cat "$work/AWS_ACCESS_KEY_ID")" --deactivate --project="$project"
    echo "the Secret $secret was not made, and the key is deactivated: run it again" >&2
    exit 1
}
