//! The MongoDB URI, the database and the password. No message repeats what stands before a URI's
//! last `@`.

use std::{fs, io::Read as _, net::Ipv6Addr, path::Path};

use mongodb::error::ErrorKind;
use mongodb::options::{
    Acknowledgment, AuthMechanism, ConnectionString, HostInfo, ReadPreference, Tls,
};
use secrecy::{ExposeSecret, SecretString};

use super::credentials::Values;
use super::{ConfigErrors, Credentials, Environment, Faults, Setting, reference, value};

/// Where documents are written.
#[derive(Clone, Debug)]
pub struct Mongodb {
    /// The URI as given, checked.
    pub uri: SecretString,
    /// Database of the entities, the checkpoints and the dead letters.
    pub database: String,
    /// The passwords of the URI's user, in the order in which they are tried: the current one, and
    /// during a rotation the next one. None where the URI names no user, or one without a password.
    pub passwords: Vec<SecretString>,
    /// Where it was read from.
    pub credentials: Credentials,
}

impl Mongodb {
    pub(super) fn read(env: &mut Environment) -> Option<Mongodb> {
        let credentials = Credentials::of(env);
        read(&mut env.faults, credentials)
    }

    /// What the files and variables say now.
    ///
    /// # Errors
    /// As at the start, each naming its variable or file.
    pub fn read_again(&self) -> Result<Mongodb, ConfigErrors> {
        let mut faults = Faults::of(&super::SETTINGS);
        let mongodb = read(&mut faults, self.credentials.clone());
        faults.unless_any(mongodb)
    }

    /// The servers that the URI names, for people.
    pub fn hosts(&self) -> String {
        match parse(self.uri.expose_secret()).map(|parsed| parsed.host_info) {
            Ok(HostInfo::HostIdentifiers(hosts)) => {
                let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
                hosts.join(",")
            }
            Ok(HostInfo::DnsRecord(name)) => name,
            Ok(_) | Err(_) => "unknown".to_owned(),
        }
    }

    /// Whether both name the same database, servers and user; their passwords may differ.
    pub fn same_place(&self, other: &Mongodb) -> bool {
        let place = |uri: &SecretString| {
            let mut parsed = parse(uri.expose_secret()).ok()?;
            if let Some(credential) = &mut parsed.credential {
                credential.password = None;
            }
            Some(parsed)
        };
        self.database == other.database && place(&self.uri) == place(&other.uri)
    }
}

fn read(faults: &mut Faults, credentials: Credentials) -> Option<Mongodb> {
    let Values {
        uri,
        database,
        password,
        password_next,
    } = credentials.read(faults);
    let database = faults.read(&reference::DATABASE, database, check_database);
    let Some(uri) = uri else {
        missing(faults, &reference::CONNECTION_STRING, "is missing");
        return None;
    };
    let parsed = match parse(uri.expose_secret()) {
        Ok(parsed) => parsed,
        Err(fault) => {
            faults.add(reference::CONNECTION_STRING.name, fault);
            return None;
        }
    };
    for fault in unfit(&parsed).into_iter().chain(unfollowing(&parsed)) {
        faults.add(reference::CONNECTION_STRING.name, fault);
    }
    let credential = parsed.credential.unwrap_or_default();
    let by_password = matches!(
        credential.mechanism,
        None | Some(AuthMechanism::ScramSha1 | AuthMechanism::ScramSha256)
    );
    if credential.username.is_none() && password.is_some() {
        faults.add(
            reference::CONNECTION_STRING.name,
            format!(
                "names no user, though {} is set: put the user's name and `@` before the host",
                reference::PASSWORD.name
            ),
        );
    }
    let own = credential.password.map(SecretString::from);
    let has_password = credential.username.is_some() && by_password;
    let password = own.or(password);
    if has_password && password.is_none() {
        let fault = "is missing: the URI names a user and carries no password";
        missing(faults, &reference::PASSWORD, fault);
    }
    Some(Mongodb {
        uri,
        database: database?,
        passwords: match has_password {
            true => password.into_iter().chain(password_next).collect(),
            false => vec![],
        },
        credentials,
    })
}

/// Adds the fault, unless another one of the variable or its `_FILE` says why it has no value.
fn missing(faults: &mut Faults, setting: &Setting, fault: &str) {
    if !faults.about(setting.name) {
        faults.add(setting.name, fault);
    }
}

/// Whether it can be the name of a database. MongoDB takes line ends and tabs too, but nobody means
/// them.
pub(crate) fn is_database_name(name: &str) -> bool {
    let is_refused = |c: char| "/\\.\"$".contains(c) || c.is_whitespace() || c.is_control();
    (1..=63).contains(&name.len()) && !name.contains(is_refused)
}

fn check_database(name: &str) -> Result<String, String> {
    if !is_database_name(name) {
        return Err(format!(
            "{} is not a database name: up to 63 bytes without / \\ . \" $ and blanks",
            value::shown(name)
        ));
    }
    if ["admin", "config", "local"].contains(&name) {
        return Err(format!(
            "{} is a database of the server itself",
            value::shown(name)
        ));
    }
    Ok(name.to_owned())
}

/// A URI as the driver parses it.
///
/// # Errors
/// Why it is invalid. The driver's messages may quote the part of the URI that is invalid, and that
/// may be part of the password: so they come from a copy without secrets.
pub(crate) fn parse(uri: &str) -> Result<ConnectionString, String> {
    // the driver panics on some other bytes, and shows them: part of a password
    if !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
        let why = "it holds a blank, a control character or one beyond ASCII: percent-encode it \
                   (a blank is %20, `é` %C3%A9)";
        return Err(format!("is not a MongoDB URI: {why}"));
    }
    ConnectionString::parse(uri).map_err(|_| why_invalid(uri))
}

/// The SRV record by which a URI names its servers; `None` where it names them itself.
pub(crate) fn srv_record(uri: &str) -> Option<String> {
    let parsed = parse(uri).ok()?;
    let HostInfo::DnsRecord(host) = parsed.host_info else {
        return None;
    };
    let service = parsed.srv_service_name;
    let service = service.as_deref().unwrap_or("mongodb");
    Some(format!("_{service}._tcp.{host}"))
}

fn why_invalid(uri: &str) -> String {
    let Some(shown) = without_secrets(uri) else {
        let why = "a host is not `name` or `name:port`; is the `@` before it missing?";
        return format!("is not a MongoDB URI: {why}");
    };
    if shown.to_lowercase().contains("compressors=") {
        return "sets `compressors`, of which this build has none; leave it out".to_owned();
    }
    match ConnectionString::parse(shown) {
        Ok(_) => "the user name or the password is not percent-encoded (`@` is %40, `:` %3A, \
                  `/` %2F, `?` %3F, `%` %25)"
            .to_owned(),
        Err(error) => match *error.kind {
            // its text has holes that nobody has filled
            ErrorKind::InvalidArgument { message, .. }
                if message.contains("if TLS is disabled") =>
            {
                "turns TLS on by one option and off by another: leave one of `tls` and `ssl` out"
                    .to_owned()
            }
            ErrorKind::InvalidArgument { message, .. } => {
                format!("is not a MongoDB URI: {message}")
            }
            _ => "is not a MongoDB URI".to_owned(),
        },
    }
}

/// The URI without its secrets; `None` where it has no `@`, and a user and a password may stand in
/// the place of the hosts.
fn without_secrets(uri: &str) -> Option<String> {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Some(String::new());
    };
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("user:password@", rest),
        None if names_hosts(rest) => ("", rest),
        None => return None,
    };
    let (hosts, options) = match rest.split_once('?') {
        Some((hosts, options)) => (hosts, Some(options)),
        None => (rest, None),
    };
    let is_secret = |key: &str| {
        let key = key.to_lowercase();
        key.contains("password") || key == "authmechanismproperties"
    };
    let without_secret = |pair: &str| match pair.split_once('=') {
        Some((key, _)) if is_secret(key) => format!("{key}=x"),
        Some(_) => pair.to_owned(),
        None => "option".to_owned(),
    };
    let scheme = match scheme {
        "mongodb" | "mongodb+srv" => scheme,
        _ => "other",
    };
    let place = format!("{scheme}://{user}{hosts}");
    Some(match options {
        Some(options) => {
            let options: Vec<String> = options.split('&').map(without_secret).collect();
            format!("{place}?{}", options.join("&"))
        }
        None => place,
    })
}

/// Whether it begins with what looks like hosts, and perhaps a database.
fn names_hosts(rest: &str) -> bool {
    let is_name = |name: &str| {
        name.chars()
            .all(|c| c.is_alphanumeric() || "-_.".contains(c))
    };
    let place = rest.split_once('?').map_or(rest, |(place, _)| place);
    let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
    let is_host = |host: &str| match host.rsplit_once(':') {
        Some((name, port)) => {
            let literal = name
                .strip_prefix('[')
                .and_then(|name| name.strip_suffix(']'));
            let is_address = literal.is_some_and(|name| name.parse::<Ipv6Addr>().is_ok());
            (is_name(name) || is_address) && port.parse::<u16>().is_ok()
        }
        None => is_name(host),
    };
    hosts.split(',').all(is_host) && is_name(database)
}

/// Options with which a client follows no election; a command of `admin` may be meant for one
/// server.
fn unfollowing(parsed: &ConnectionString) -> Vec<String> {
    let mut faults = Vec::new();
    if parsed.direct_connection == Some(true) {
        faults.push(
            "sets `directConnection`: after an election the service would go on asking a server \
             that takes no writes; leave it out"
                .to_owned(),
        );
    }
    if parsed.load_balanced == Some(true) {
        faults
            .push("sets `loadBalanced`: the service needs a replica set; leave it out".to_owned());
    }
    faults
}

/// How a user may be authenticated: what the driver brings, and a password or a certificate is for.
const MECHANISMS: [&str; 3] = ["SCRAM-SHA-256", "SCRAM-SHA-1", "MONGODB-X509"];

/// Bytes of a file of certificates that are looked at; all the authorities of a system have fewer.
const PEM_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Options that the driver takes and the service cannot work with.
pub(crate) fn unfit(parsed: &ConnectionString) -> Vec<String> {
    let mut faults = Vec::new();
    let concern = parsed.write_concern.as_ref();
    let w = concern.and_then(|concern| concern.w.as_ref());
    if w.is_some_and(|w| *w != Acknowledgment::Majority) {
        faults.push(
            "sets `w`: what is not written to a majority can be rolled back; leave it out"
                .to_owned(),
        );
    }
    if concern.is_some_and(|concern| concern.journal == Some(false)) {
        faults.push(
            "sets `journal=false`: a crash would lose what was settled; leave it out".to_owned(),
        );
    }
    if concern.is_some_and(|concern| concern.w_timeout.is_some()) {
        faults.push(
            "sets `wTimeoutMS`: the service waits for a majority under a deadline of its own; \
             leave it out"
                .to_owned(),
        );
    }
    if parsed
        .read_preference
        .as_ref()
        .is_some_and(|read| *read != ReadPreference::Primary)
    {
        faults.push(
            "sets `readPreference`: transactions read from the primary; leave it out".to_owned(),
        );
    }
    #[allow(deprecated)]
    if parsed.socket_timeout.is_some() {
        faults.push(
            "sets `socketTimeoutMS`, which the driver does not support; leave it out".to_owned(),
        );
    }
    if let Some(Tls::Enabled(tls)) = &parsed.tls {
        let files = [
            ("tlsCAFile", &tls.ca_file_path, &["CERTIFICATE"][..]),
            (
                "tlsCertificateKeyFile",
                &tls.cert_key_file_path,
                &["CERTIFICATE", "PRIVATE KEY"],
            ),
        ];
        for (option, path, held) in files {
            if let Some(path) = path
                && let Err(fault) = holds(path, held)
            {
                faults.push(format!("{option}: {fault}"));
            }
        }
    }
    let credential = parsed.credential.as_ref();
    if let Some(mechanism) = credential.and_then(|credential| credential.mechanism.as_ref())
        && !MECHANISMS.contains(&mechanism.as_str())
    {
        faults.push(format!(
            "sets `authMechanism={}`: it is none of {}",
            mechanism.as_str(),
            MECHANISMS.join(", ")
        ));
    }
    faults
}

/// The driver takes a file without a certificate for one without an authority.
fn holds(path: &Path, sections: &[&str]) -> Result<(), String> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| {
        let mut file = file.take(PEM_BYTES_MAX);
        file.read_to_end(&mut bytes)
    });
    read.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let is_missing = |section: &&&str| {
        let mut lines = text.lines().filter(|line| line.starts_with("-----BEGIN "));
        !lines.any(|line| line.contains(**section))
    };
    match sections.iter().find(is_missing) {
        None => Ok(()),
        Some(section) => Err(format!(
            "{} holds no {section} in PEM: is it the file that is meant?",
            path.display()
        )),
    }
}
