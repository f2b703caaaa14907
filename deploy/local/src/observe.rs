//! What can be seen of a running service from outside: its metrics, its use of the machine.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const HTTP_DEADLINE: Duration = Duration::from_secs(5);

/// The body of `http://ADDRESS PATH`, which must answer 200.
pub async fn get(address: &str, path: &str) -> Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.map(|_| response)
    };
    let response = timeout(HTTP_DEADLINE, exchange)
        .await
        .context("no answer in time")??;
    let response = String::from_utf8_lossy(&response);
    let (head, body) = response
        .split_once("\r\n\r\n")
        .context("not an HTTP response")?;
    ensure!(
        head.split(' ').nth(1) == Some("200"),
        "{path}: {}",
        head.lines().next().unwrap_or_default()
    );
    Ok(body.to_owned())
}

/// The samples of one metric in the text of `/metrics`: labels (with their braces, or empty) and
/// value.
pub fn samples<'a>(metrics: &'a str, name: &str) -> Vec<(&'a str, f64)> {
    let sample = |line: &'a str| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => (
                &line[name.len()..=name.len() + rest.find('}')? + 1],
                &rest[rest.find('}')? + 1..],
            ),
            None => ("", rest.starts_with(' ').then_some(rest)?),
        };
        Some((labels, value.split_whitespace().next()?.parse().ok()?))
    };
    metrics.lines().filter_map(sample).collect()
}

/// The sum over all labels of one metric.
pub fn total(metrics: &str, name: &str) -> f64 {
    samples(metrics, name).iter().map(|(_, value)| value).sum()
}

/// Use of the machine by one process since it started.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Memory that it has in use.
    pub memory_bytes: u64,
    /// The most memory it ever had in use.
    pub peak_memory_bytes: u64,
}

/// Reads `/proc`.
pub fn usage(pid: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Field 2 is a name that may hold spaces; utime and stime are fields 14 and 15.
    let fields = stat
        .rsplit(") ")
        .next()
        .map(|rest| rest.split(' ').collect::<Vec<_>>())
        .context("stat")?;
    let ticks =
        |index: usize| Ok::<u64, anyhow::Error>(fields.get(index).context("stat")?.parse()?);
    let seconds = (ticks(11)? + ticks(12)?) as f64 / rustix::param::clock_ticks_per_second() as f64;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let memory = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        Ok(1024
            * kilobytes
                .with_context(|| format!("no {name}"))?
                .parse::<u64>()?)
    };
    Ok(Usage {
        cpu: Duration::from_secs_f64(seconds),
        memory_bytes: memory("VmRSS:")?,
        peak_memory_bytes: memory("VmHWM:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_by_whole_names() {
        let text = "# HELP lag Records behind.\n# TYPE lag gauge\nlag{partition=\"0\"} 3\nlag{partition=\"1\"} 4 1700000000\nlag_max 9\nup 1\n";
        assert_eq!(
            samples(text, "lag"),
            [("{partition=\"0\"}", 3.0), ("{partition=\"1\"}", 4.0)]
        );
        assert_eq!(total(text, "lag"), 7.0);
        assert_eq!(samples(text, "up"), [("", 1.0)]);
        assert!(samples(text, "absent").is_empty());
    }

    #[test]
    fn the_use_of_this_process_is_plausible() {
        let before = usage(std::process::id()).unwrap();
        let end = std::time::Instant::now() + Duration::from_millis(200);
        while std::time::Instant::now() < end {
            std::hint::black_box(0);
        }
        let after = usage(std::process::id()).unwrap();
        assert!(after.cpu > before.cpu && after.cpu < before.cpu + Duration::from_secs(60));
        assert!((1 << 20..1 << 40).contains(&after.peak_memory_bytes));
    }

    #[tokio::test]
    async fn a_page_is_fetched_and_a_failure_is_an_error() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            for answer in [
                "HTTP/1.1 200 OK\r\n\r\nready",
                "HTTP/1.1 503 Service Unavailable\r\n\r\nno",
            ] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).await.unwrap();
                assert!(request[..length].starts_with(b"GET /readyz HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        assert_eq!(get(&address, "/readyz").await.unwrap(), "ready");
        assert!(
            get(&address, "/readyz")
                .await
                .unwrap_err()
                .to_string()
                .contains("503")
        );
        server.await.unwrap();
    }
}
