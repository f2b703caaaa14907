//! The HTTP server of a process under test: where its log says it listens, and what it answers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

const READ_DEADLINE: Duration = Duration::from_secs(5);

/// The address in a JSON log, once something listens there.
pub fn listening(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("\"listening\""))?;
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(line["address"].as_str()?.to_owned())
}

/// Status and body of a GET, or `None` while nothing answers.
pub fn get(address: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(READ_DEADLINE)).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
