//! The URI, its user and the password.

use super::*;

#[test]
fn a_user_needs_a_password_and_a_password_a_user() {
    let bare = (URI.0, "mongodb://localhost/");
    let named = (URI.0, "mongodb://workflows-sink@localhost/");
    let password = ("DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD", "pw");
    assert!(read(&[bare]).is_ok());
    assert!(read(&[named, password]).is_ok());
    let (variable, fault) = only(read(&[named]).unwrap_err());
    assert_eq!(variable, password.0);
    assert!(fault.contains("is missing"), "{fault}");
    let (variable, fault) = only(read(&[bare, password]).unwrap_err());
    assert_eq!(variable, URI.0);
    assert!(fault.contains("names no user"), "{fault}");
}

#[test]
fn a_uri_is_refused_with_the_drivers_reason() {
    for (uri, says) in [
        ("http://localhost/", "scheme"),
        ("localhost:27017", "scheme"),
        ("mongodb://localhost:port/", "port"),
        (
            "mongodb+srv://localhost:27017/",
            "a port cannot be specified",
        ),
        ("mongodb://localhost/?tsl=true", "tsl is an invalid option"),
        ("mongodb://localhost/?timeoutMS=1", "timeoutms"),
        ("mongodb://u:p@localhost/?authSource=", "empty authSource"),
        ("mongodb://localhost/?w=1", "`w`"),
        ("mongodb://localhost/?journal=false", "`journal=false`"),
        (
            "mongodb://localhost/?socketTimeoutMS=5",
            "`socketTimeoutMS`",
        ),
        ("mongodb://localhost/?wTimeoutMS=5", "`wTimeoutMS`"),
        (
            "mongodb://localhost/?readPreference=secondary",
            "`readPreference`",
        ),
        (
            "mongodb://localhost/?directConnection=true",
            "`directConnection`",
        ),
        ("mongodb://localhost/?loadBalanced=true", "`loadBalanced`"),
        (
            "mongodb://localhost/?compressors=zstd,zlib",
            "sets `compressors`",
        ),
        ("mongodb://localhost/?compressors=x", "sets `compressors`"),
        (
            "mongodb://localhost/?tls=true&tlsCAFile=/nowhere/ca.pem",
            "cannot be read",
        ),
    ] {
        let (variable, fault) = only(read(&[(URI.0, uri)]).unwrap_err());
        assert_eq!(variable, URI.0);
        assert!(
            fault.to_lowercase().contains(&says.to_lowercase()),
            "{uri}: {fault}"
        );
    }
    assert!(
        read(&[(
            URI.0,
            "mongodb://localhost/?w=majority&readPreference=primary&journal=true"
        )])
        .is_ok()
    );
}

#[test]
fn a_password_that_is_not_percent_encoded_is_reported_without_showing_it() {
    for password in [
        "pa:ss/hunter2",
        "hunter2@x",
        "hunter2/",
        "%hunter2",
        "a?hunter2",
        "hunter2@x?y/z",
    ] {
        let uri = format!("mongodb://workflows-sink:{password}@localhost/");
        let (_, fault) = only(read(&[(URI.0, &uri)]).unwrap_err());
        assert!(fault.contains("percent-encoded"), "{password}: {fault}");
        assert!(!fault.contains("hunter2"));
    }
}

#[test]
fn a_uri_beyond_printable_ascii_is_refused() {
    for password in ["%2é", "hunter2é", "hunter 2", "hunter2\u{7f}"] {
        let uri = format!("mongodb://workflows-sink:{password}@localhost/");
        let (_, fault) = only(read(&[(URI.0, &uri)]).unwrap_err());
        assert!(fault.contains("percent-encode it"), "{password}: {fault}");
        assert!(!fault.contains("hunter"));
    }
}

#[test]
fn a_password_that_stands_where_a_host_should_is_not_shown() {
    for rest in [
        "u:hunter2",
        "u:hunter2%zz/workflows?replicaSet=rs0",
        "u:p/hunter2",
        "h:1,u:hunter2",
        "[u]:hunter2",
        "u:70000hunter2",
    ] {
        let uri = format!("mongodb://{rest}");
        let (_, fault) = only(read(&[(URI.0, &uri)]).unwrap_err());
        assert!(
            fault.contains("is the `@` before it missing?"),
            "{rest}: {fault}"
        );
        assert!(!fault.contains("hunter2"), "{rest}: {fault}");
    }
    for uri in [
        "mongodb://localhost:27017",
        "mongodb://a,b.c:1/d?tls=true",
        "mongodb://[::1]:27017/",
    ] {
        assert!(read(&[(URI.0, uri)]).is_ok(), "{uri}");
    }
}
