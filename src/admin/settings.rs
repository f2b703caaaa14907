//! Every setting of `admin`. They are separate from the service's, as the sidecar has an
//! environment of its own; only format and filter of the log are shared.

use crate::config::reference::Setting;

/// The beginning of every setting of `admin`; no other variable may begin with it.
pub const PREFIX: &str = "DYFF_WORKFLOWS_SINK_ADMIN__";

/// The cluster's URI.
pub const CONNECTION_STRING: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB__CONNECTION_STRING",
    default: Some(
        "mongodb+srv://dyff-datastore-rs0.mongodb.svc.cluster.local/?replicaSet=rs0&ssl=false",
    ),
    example: "mongodb://mongo-0:27017,mongo-1:27017/?replicaSet=rs0",
    meaning: "Hosts and options of the MongoDB cluster, without user, password and database. The \
              connection strings of the users begin with it.",
    secret: false,
};
/// Name of the user admin.
pub const USER_ADMIN_USER: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_USER",
    default: None,
    example: "userAdmin",
    meaning: "The MongoDB user (of `admin`) who may create users. With its password it replaces \
              the operator's Secret; without, its password is that Secret's.",
    secret: true,
};
/// Password of the user admin.
pub const USER_ADMIN_PASSWORD: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_PASSWORD",
    default: None,
    example: "correct-horse",
    meaning: "Its password.",
    secret: true,
};
/// The operator's Secret.
pub const OPERATOR_SECRET: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__OPERATOR_SECRET",
    default: Some("mongodb/dyff-datastore-secrets"),
    example: "mongodb/dyff-datastore-secrets",
    meaning: "The Secret of the MongoDB operator, as `namespace/name`, with the keys \
              `MONGODB_USER_ADMIN_PASSWORD` and, unless the user is named by a setting, \
              `MONGODB_USER_ADMIN_USER`.",
    secret: false,
};
/// The table of users.
pub const USERS_FILE: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__USERS_FILE",
    default: None,
    example: "config/users.toml",
    meaning: "A table of users, roles and Secrets that replaces the built-in one \
              (`config/users.toml`).",
    secret: false,
};
/// Namespace of Secrets without one.
pub const NAMESPACE: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__NAMESPACE",
    default: None,
    example: "default",
    meaning: "The namespace of Secrets for which the table names none. Unset: the pod's own, or \
              that of the kubeconfig's context.",
    secret: false,
};
/// Between two looks.
pub const RECONCILE_INTERVAL_SECONDS: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__RECONCILE_INTERVAL_SECONDS",
    default: Some("60"),
    example: "60",
    meaning: "`admin serve`: how often to look at users and Secrets without a reason, in seconds, \
              1 to 86400; up to a quarter of it is added at random. A change of a Secret is \
              noticed at once.",
    secret: false,
};
/// Scheduled rotation.
pub const ROTATE_EVERY_SECONDS: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__ROTATE_EVERY_SECONDS",
    default: Some("0"),
    example: "2592000",
    meaning: "`admin serve`: rotates a password that is older than this many seconds; 0: never.",
    secret: false,
};
/// Metrics and probes.
pub const LISTEN_ADDRESS: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__LISTEN_ADDRESS",
    default: Some("0.0.0.0:9091"),
    example: "[::]:9091",
    meaning: "`admin serve`: where to serve `/metrics`, `/livez`, `/readyz` and `/startupz`, as \
              `address:port`.",
    secret: false,
};

/// All settings of `admin`, in the order in which the reference shows them.
pub const SETTINGS: [&Setting; 9] = [
    &CONNECTION_STRING,
    &USER_ADMIN_USER,
    &USER_ADMIN_PASSWORD,
    &OPERATOR_SECRET,
    &USERS_FILE,
    &NAMESPACE,
    &RECONCILE_INTERVAL_SECONDS,
    &ROTATE_EVERY_SECONDS,
    &LISTEN_ADDRESS,
];
