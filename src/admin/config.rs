//! Environment → the configuration of `admin`.

use std::{fs, net::SocketAddr, time::Duration};

use mongodb::options::ConnectionString;
use secrecy::{ExposeSecret as _, SecretString};

use super::settings::{
    CONNECTION_STRING, LISTEN_ADDRESS, NAMESPACE, OPERATOR_SECRET, PREFIX,
    RECONCILE_INTERVAL_SECONDS, ROTATE_EVERY_SECONDS, SETTINGS, USER_ADMIN_PASSWORD,
    USER_ADMIN_USER, USERS_FILE,
};
use super::table::{DNS_RULE, SecretName, Table, User, is_dns};
use crate::config::mongodb::{parse, unfit};
use crate::config::{ConfigErrors, Environment, Settings, value};
use crate::telemetry::logging::Log;

const OF_ADMIN: Settings = Settings {
    table: &SETTINGS,
    prefix: PREFIX,
};

/// A name and its password.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

/// Where the name and the password of the user admin come from.
#[derive(Clone, Debug)]
pub enum UserAdminFrom {
    /// The password from the operator's Secret, and the name where none is given here.
    Secret(Option<String>),
    /// Both were given.
    Environment(Credentials),
}

impl UserAdminFrom {
    /// Name and password, where no Secret is asked for them.
    pub fn given(&self) -> Option<&Credentials> {
        match self {
            UserAdminFrom::Secret(_) => None,
            UserAdminFrom::Environment(credentials) => Some(credentials),
        }
    }
}

/// The configuration of `admin`, checked. `Debug` shows no secret.
#[derive(Debug)]
pub struct Admin {
    /// Hosts and options of the cluster: a URI without user and database.
    pub uri: String,
    /// The user admin.
    pub user_admin: UserAdminFrom,
    /// The operator's Secret.
    pub operator_secret: SecretName,
    /// The table of users.
    pub table: Table,
    /// The namespace of Secrets that name none.
    pub namespace: Option<String>,
    /// How long between two looks without a reason.
    pub reconcile_interval: Duration,
    /// The age at which a password is rotated; none: never.
    pub rotate_every: Option<Duration>,
    /// Where metrics and probes are served.
    pub listen_address: SocketAddr,
    /// Format and filter of the log.
    pub log: Log,
}

impl Admin {
    /// The configuration of this process's environment. Reads the files that it names, opens no
    /// socket.
    ///
    /// # Errors
    /// Every fault.
    pub fn from_env() -> Result<Admin, ConfigErrors> {
        Admin::read(Environment::of_process(&OF_ADMIN))
    }

    /// The configuration of these variables; ignores those that are not of `admin`.
    ///
    /// # Errors
    /// Every fault.
    pub fn from_vars(vars: impl Iterator<Item = (String, String)>) -> Result<Admin, ConfigErrors> {
        Admin::read(Environment::of(&OF_ADMIN, vars))
    }

    fn read(mut env: Environment) -> Result<Admin, ConfigErrors> {
        let user_admin = user_admin(&mut env);
        let uri = env.read(&CONNECTION_STRING, cluster_uri);
        let operator_secret = env.read(&OPERATOR_SECRET, secret_name);
        let table = match env.get(&USERS_FILE) {
            Some(_) => env.read(&USERS_FILE, table),
            None => Some(Table::builtin()),
        };
        let namespace = env.read_if_set(&NAMESPACE, dns_name);
        let interval = env.read(&RECONCILE_INTERVAL_SECONDS, value::whole(1..=86_400));
        let rotate_every = env.read(&ROTATE_EVERY_SECONDS, value::whole(0..=315_360_000));
        let listen_address = env.read(&LISTEN_ADDRESS, value::address);
        let log = env.log();

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
        env.unless_any_fault(config)
    }

    /// The connection string of a user's Secret: the cluster's hosts and options, the user, its
    /// database, and where it is defined; no password, so that a rotation does not change it.
    pub fn connection_string(&self, user: &User) -> String {
        let (scheme, rest) = self.uri.split_once("://").expect("it was parsed");
        let (hosts, options) = rest.split_once('?').unwrap_or((rest, ""));
        let hosts = hosts.trim_end_matches('/');
        let source = format!("authSource={}", self.table.auth_database);
        let options: Vec<&str> = (options.split('&').filter(|option| !option.is_empty()))
            .chain([source.as_str()])
            .collect();
        let (name, database) = (&user.name, &user.roles[0].db);
        format!("{scheme}://{name}@{hosts}/{database}?{}", options.join("&"))
    }
}

fn user_admin(env: &mut Environment) -> UserAdminFrom {
    let name = env.secret(&USER_ADMIN_USER);
    let name = name.map(|name| name.expose_secret().to_owned());
    match (name, env.secret(&USER_ADMIN_PASSWORD)) {
        (Some(user), Some(password)) => UserAdminFrom::Environment(Credentials { user, password }),
        (None, Some(_)) if !env.faults.about(USER_ADMIN_USER.name) => {
            let fault = format!("is missing, though {} is set", USER_ADMIN_PASSWORD.name);
            env.faults.add(USER_ADMIN_USER.name, fault);
            UserAdminFrom::Secret(None)
        }
        (name, _) => UserAdminFrom::Secret(name),
    }
}

fn cluster_uri(uri: &str) -> Result<String, String> {
    let parsed: ConnectionString = parse(uri)?;
    if parsed.credential.is_some() {
        return Err(
            "names a user or an authentication option: leave it out, each user's is added"
                .to_owned(),
        );
    }
    let (_, rest) = uri.split_once("://").expect("it was parsed");
    let place = rest.split_once('?').map_or(rest, |(place, _)| place);
    match place.split_once('/') {
        Some((_, database)) if !database.is_empty() => {
            Err("names a database: leave it out, each user's is added".to_owned())
        }
        _ => match unfit(&parsed).into_iter().next() {
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
            "{} is not a valid name: {DNS_RULE}",
            value::shown(text)
        )),
    }
}

fn table(path: &str) -> Result<Table, String> {
    let text = fs::read_to_string(path)
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
            "mongodb+srv://workflows-sink@dyff-datastore-rs0.mongodb.svc.cluster.local/workflows\
             ?replicaSet=rs0&ssl=false&authSource=users"
        );
        assert_eq!(
            config.operator_secret.to_string(),
            "mongodb/dyff-datastore-secrets"
        );
        assert!(matches!(config.user_admin, UserAdminFrom::Secret(None)));
        assert!(config.rotate_every.is_none());
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
    fn every_fault_is_shown_at_once_and_no_secret() {
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
    fn a_name_alone_is_that_of_the_user_whose_password_is_in_the_secret() {
        let config = read(&[("MONGODB_USER_ADMIN_USER", "small-admin")]).unwrap();
        let UserAdminFrom::Secret(Some(name)) = config.user_admin else {
            panic!("{:?}", config.user_admin)
        };
        assert_eq!(name, "small-admin");
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
