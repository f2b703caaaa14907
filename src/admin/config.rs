//! Environment → what `admin` is told. Its settings are separate from the service's, as the sidecar has an environment of
//! its own.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, time::Duration};

use ::mongodb::options::ConnectionString;
use secrecy::{ExposeSecret as _, SecretString};

use super::table::{SecretName, Table, User, is_dns};
use crate::config::faults::Faults;
use crate::config::reference::{self, FILE_SUFFIX, Setting};
use crate::config::{ConfigErrors, environment, log, mongodb, value};
use crate::telemetry::logging::Log;

/// What every setting of `admin` begins with; a name that does and is not in [`SETTINGS`] is an error.
pub const PREFIX: &str = "DYFF_WORKFLOWS_SINK_ADMIN__";

/// The cluster's URI.
pub const CONNECTION_STRING: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB__CONNECTION_STRING",
    default: Some(
        "mongodb+srv://dyff-datastore-rs0.mongodb.svc.cluster.local/?replicaSet=rs0&ssl=false",
    ),
    example: "mongodb://mongo-0:27017,mongo-1:27017/?replicaSet=rs0",
    meaning: "Hosts and options of the MongoDB cluster, without user, password and database. The users' connection strings are made of it.",
    secret: false,
};
/// Name of the user admin.
pub const USER_ADMIN_USER: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__MONGODB_USER_ADMIN_USER",
    default: None,
    example: "userAdmin",
    meaning: "The MongoDB user (of `admin`) who may create users. With its password it takes the place of the operator's Secret.",
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
    meaning: "The Secret of the MongoDB operator, as `namespace/name`, in which `MONGODB_USER_ADMIN_USER` and `MONGODB_USER_ADMIN_PASSWORD` are looked up.",
    secret: false,
};
/// The users.
pub const USERS_FILE: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__USERS_FILE",
    default: None,
    example: "config/users.toml",
    meaning: "A table of users, roles and Secrets that takes the place of the built-in one (`config/users.toml`).",
    secret: false,
};
/// Namespace of Secrets without one.
pub const NAMESPACE: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__NAMESPACE",
    default: None,
    example: "default",
    meaning: "The namespace of Secrets for which the table names none. Unset: the pod's own, or that of the kubeconfig's context.",
    secret: false,
};
/// Between two looks.
pub const RECONCILE_INTERVAL_SECONDS: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__RECONCILE_INTERVAL_SECONDS",
    default: Some("60"),
    example: "60",
    meaning: "`admin serve`: how often users and Secrets are looked at without a reason, in seconds, 1 to 86400; up to a quarter of it is added at random. Changes of the Secrets are seen at once besides.",
    secret: false,
};
/// Scheduled rotation.
pub const ROTATE_EVERY_SECONDS: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__ROTATE_EVERY_SECONDS",
    default: Some("0"),
    example: "2592000",
    meaning: "`admin serve`: a password older than this many seconds is rotated; 0: never by itself.",
    secret: false,
};
/// Health and metrics.
pub const LISTEN_ADDRESS: Setting = Setting {
    name: "DYFF_WORKFLOWS_SINK_ADMIN__LISTEN_ADDRESS",
    default: Some("0.0.0.0:9091"),
    example: "[::]:9091",
    meaning: "`admin serve`: where `/metrics`, `/livez`, `/readyz` and `/startupz` are served, as `address:port`.",
    secret: false,
};

/// All settings of `admin`, in the order in which the reference shows them. Format and filter of the log are the service's.
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

/// A name and its password.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

/// Everything that `admin` is told, checked. `Debug` shows no secret.
#[derive(Debug)]
pub struct Admin {
    /// Hosts and options of the cluster: a URI without user and database.
    pub uri: String,
    /// The user admin; none: the operator's Secret says.
    pub user_admin: Option<Credentials>,
    /// The operator's Secret.
    pub operator_secret: SecretName,
    /// The users.
    pub table: Table,
    /// The namespace of Secrets that name none.
    pub namespace: Option<String>,
    /// Between two looks without a reason.
    pub reconcile_interval: Duration,
    /// The age at which a password is rotated.
    pub rotate_every: Option<Duration>,
    /// Where metrics and health are served.
    pub listen_address: SocketAddr,
    /// Form and filter of the log.
    pub log: Log,
}

impl Admin {
    /// The configuration of this process's environment. Reads the files that it names, opens no socket.
    pub fn from_env() -> Result<Admin, ConfigErrors> {
        let (vars, faults) = environment(&SETTINGS);
        Admin::read(vars, faults)
    }

    /// The configuration of these variables, of which others than those of `admin` are passed over.
    pub fn from_vars(vars: impl Iterator<Item = (String, String)>) -> Result<Admin, ConfigErrors> {
        Admin::read(vars.collect(), Faults::of(&SETTINGS))
    }

    fn read(vars: BTreeMap<String, String>, mut faults: Faults) -> Result<Admin, ConfigErrors> {
        for name in vars.keys().filter(|name| name.starts_with(PREFIX)) {
            if !reference::is_known(&SETTINGS, name) {
                let nearest = reference::nearest(&SETTINGS, PREFIX, name);
                let fault = format!("there is no such setting; did you mean {nearest}?");
                faults.add(name, fault);
            }
        }
        let var = |setting: &Setting| vars.get(setting.name).cloned();
        let file = |setting: &Setting| vars.get(&format!("{}{FILE_SUFFIX}", setting.name)).cloned();
        let mut secret = |setting: &Setting| faults.secret(setting, var(setting), file(setting));
        let (name, password) = (secret(&USER_ADMIN_USER), secret(&USER_ADMIN_PASSWORD));
        let user_admin = user_admin(&mut faults, name, password);

        let uri = faults.read(&CONNECTION_STRING, var(&CONNECTION_STRING), cluster_uri);
        let operator_secret = faults.read(&OPERATOR_SECRET, var(&OPERATOR_SECRET), secret_name);
        let table = match var(&USERS_FILE) {
            Some(path) => faults.read(&USERS_FILE, Some(path), table),
            None => Some(Table::builtin()),
        };
        let namespace =
            var(&NAMESPACE).and_then(|name| faults.read(&NAMESPACE, Some(name), dns_name));
        let interval = faults.read(
            &RECONCILE_INTERVAL_SECONDS,
            var(&RECONCILE_INTERVAL_SECONDS),
            value::whole(1..=86_400),
        );
        let rotate_every = faults.read(
            &ROTATE_EVERY_SECONDS,
            var(&ROTATE_EVERY_SECONDS),
            value::whole(0..=315_360_000),
        );
        let listen_address = faults.read(
            &LISTEN_ADDRESS,
            var(&LISTEN_ADDRESS),
            value::parsed("an address with a port"),
        );
        let log = log(
            &mut faults,
            var(&reference::LOG_FORMAT),
            var(&reference::LOG_FILTER),
        );

        let config = (|| {
            Some(Admin {
                uri: uri?,
                user_admin,
                operator_secret: operator_secret?,
                table: table?,
                namespace,
                reconcile_interval: Duration::from_secs(interval? as u64),
                rotate_every: Some(rotate_every? as u64)
                    .filter(|seconds| *seconds > 0)
                    .map(Duration::from_secs),
                listen_address: listen_address?,
                log: log?,
            })
        })();
        faults.unless_any(config)
    }

    /// The connection string that a user's Secret holds: the cluster's hosts and options, the user, its database and where
    /// it lives; no password, so that a rotation does not touch it.
    pub fn connection_string(&self, user: &User) -> String {
        let (scheme, rest) = self.uri.split_once("://").unwrap_or(("mongodb", &self.uri));
        let (hosts, options) = rest.split_once('?').unwrap_or((rest, ""));
        let hosts = hosts.trim_end_matches('/');
        let mut options: Vec<&str> = options
            .split('&')
            .filter(|option| !option.is_empty())
            .collect();
        let source = format!("authSource={}", self.table.auth_database);
        options.push(&source);
        let database = &user.roles[0].db;
        format!(
            "{scheme}://{}@{hosts}/{database}?{}",
            user.name,
            options.join("&")
        )
    }
}

fn user_admin(
    faults: &mut Faults,
    name: Option<SecretString>,
    password: Option<SecretString>,
) -> Option<Credentials> {
    let other = |given: &Setting| format!("is missing, though {} is set", given.name);
    match (name, password) {
        (Some(name), Some(password)) => Some(Credentials {
            user: name.expose_secret().to_owned(),
            password,
        }),
        (Some(_), None) if !faults.about(USER_ADMIN_PASSWORD.name) => {
            faults.add(USER_ADMIN_PASSWORD.name, other(&USER_ADMIN_USER));
            None
        }
        (None, Some(_)) if !faults.about(USER_ADMIN_USER.name) => {
            faults.add(USER_ADMIN_USER.name, other(&USER_ADMIN_PASSWORD));
            None
        }
        _ => None,
    }
}

fn cluster_uri(uri: &str) -> Result<String, String> {
    let parsed: ConnectionString = mongodb::parse(uri)?;
    if parsed.credential.is_some() {
        return Err(
            "names a user or an authentication option: leave it out, each user's is added"
                .to_owned(),
        );
    }
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let hosts = rest.split('?').next().unwrap_or(rest);
    match hosts.split_once('/') {
        Some((_, database)) if !database.is_empty() => {
            Err("names a database: leave it out, each user's is added".to_owned())
        }
        _ => match mongodb::unfit(&parsed).into_iter().next() {
            Some(fault) => Err(fault),
            None => Ok(uri.to_owned()),
        },
    }
}

fn secret_name(text: &str) -> Result<SecretName, String> {
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(dns_name(namespace)?), name),
        None => (None, text),
    };
    Ok(SecretName {
        namespace,
        name: dns_name(name)?,
    })
}

/// A name that Kubernetes takes for a namespace or a Secret.
fn dns_name(text: &str) -> Result<String, String> {
    match is_dns(text) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "{} is not a name that Kubernetes takes: a-z, 0-9, '-' and '.', with a letter or digit at the ends",
            value::shown(text)
        )),
    }
}

fn table(path: &str) -> Result<Table, String> {
    let text = fs::read_to_string(Path::new(path))
        .map_err(|error| format!("{} cannot be read: {error}", value::shown(path)))?;
    Table::parse(&text).map_err(|error| format!("{}: {error}", value::shown(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Admin, ConfigErrors> {
        let vars = vars
            .iter()
            .map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned()));
        Admin::from_vars(vars)
    }

    fn sink(config: &Admin) -> String {
        let sink = config.table.select(&["workflows-sink".to_owned()]).unwrap();
        config.connection_string(&sink[0])
    }

    #[test]
    fn nothing_has_to_be_set() {
        let config = read(&[]).unwrap();
        assert_eq!(
            sink(&config),
            "mongodb+srv://workflows-sink@dyff-datastore-rs0.mongodb.svc.cluster.local/workflows?replicaSet=rs0&ssl=false&authSource=users"
        );
        assert_eq!(
            config.operator_secret.to_string(),
            "mongodb/dyff-datastore-secrets"
        );
        assert!(config.user_admin.is_none() && config.rotate_every.is_none());
        assert_eq!(config.reconcile_interval, Duration::from_secs(60));
    }

    #[test]
    fn a_connection_string_is_one_that_the_service_takes() {
        for uri in [
            "mongodb://a:1,b:2",
            "mongodb://a/",
            "mongodb://a/?",
            "mongodb://a?tls=true",
        ] {
            let uri = sink(&read(&[("MONGODB__CONNECTION_STRING", uri)]).unwrap());
            let vars = [
                (
                    "DYFF_WORKFLOWS_SINK__MONGODB__CONNECTION_STRING",
                    uri.as_str(),
                ),
                ("DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD", "p"),
            ];
            let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
            crate::config::Config::from_vars(vars.into_iter()).unwrap();
        }
    }

    #[test]
    fn every_fault_is_told_at_once_and_none_shows_a_secret() {
        let errors = read(&[
            ("MONGODB__CONNECTION_STRING", "mongodb://root:hunter2@a/"),
            ("MONGODB_USER_ADMIN_PASSWORD", "hunter2"),
            ("OPERATOR_SECRET", "a/b/c"),
            ("NAMESPACE", "Upper"),
            ("ROTATE_EVERY_SECONDS", "30d"),
            ("RECONCILE_INTERVAL_SECONDS", "0"),
            ("LISTEN_ADDRESS", "nowhere"),
            ("USERS_FILE", "/nowhere/users.toml"),
            ("ROTATE_EVRY_SECONDS", "1"),
        ])
        .unwrap_err();
        assert_eq!(errors.0.len(), 9, "{errors}");
        let text = format!("{errors} {errors:?}");
        assert!(!text.contains("hunter2"), "{text}");
        for says in [
            "did you mean DYFF_WORKFLOWS_SINK_ADMIN__ROTATE_EVERY_SECONDS?",
            "leave it out",
        ] {
            assert!(text.contains(says), "{text}");
        }
        assert!(
            errors
                .0
                .iter()
                .filter(|error| error.example.is_some())
                .count()
                == 8
        );
        for uri in ["mongodb://a/db", "mongodb://a/?w=1", "a:27017"] {
            assert!(
                read(&[("MONGODB__CONNECTION_STRING", uri)]).is_err(),
                "{uri}"
            );
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let config = read(&[
            ("MONGODB_USER_ADMIN_USER", "userAdmin"),
            ("MONGODB_USER_ADMIN_PASSWORD", "hunter2"),
        ]);
        assert!(!format!("{:?}", config.unwrap()).contains("hunter2"));
    }
}
