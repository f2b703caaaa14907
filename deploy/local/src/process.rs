//! A server process that cannot outlive this one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const POLL: Duration = Duration::from_millis(10);
const LOG_TAIL_BYTES_MAX: usize = 4_000;

/// A command that can be started, signalled and started again.
///
/// Dropped, it is killed and its directory removed. If this process dies without dropping it
/// (SIGKILL, `exit`, a server kept in a `static`), a watchdog in `supervise.sh` does the same.
pub struct Server {
    name: String,
    directory: TempDir,
    command: Vec<OsString>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl Server {
    /// An empty directory for a server that [`Server::start`] will run.
    pub fn new(name: &str) -> Result<Server> {
        let directory = tempfile::Builder::new()
            .prefix(&format!("workflows-sink-{name}-"))
            .tempdir()?;
        Ok(Server {
            name: name.to_owned(),
            directory,
            command: vec![],
            environment: vec![],
            child: None,
        })
    }

    /// Sets what to run: the program and its arguments, which must hold no secret.
    pub fn command<A: Into<OsString>>(&mut self, command: impl IntoIterator<Item = A>) {
        self.command = command.into_iter().map(Into::into).collect();
    }

    /// Adds an environment variable.
    pub fn env(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Where its data and configuration are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where its standard output and error go.
    pub fn log(&self) -> PathBuf {
        self.directory().join("log")
    }

    /// Starts it, again if it has ended.
    pub fn start(&mut self) -> Result<()> {
        if self.running()? {
            bail!("{} already runs", self.name);
        }
        let log = File::options().create(true).append(true).open(self.log())?;
        let child = Command::new("sh")
            .args(["-c", include_str!("supervise.sh"), &self.name])
            .arg(self.directory.path())
            .args(&self.command)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C in a terminal goes to the whole group; the order of stopping is ours to
            // choose.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", self.name))?;
        self.child = Some(child);
        Ok(())
    }

    /// Its process id while it has one.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether it runs (frozen counts).
    pub fn running(&mut self) -> Result<bool> {
        Ok(self.child.is_some() && self.try_wait()?.is_none())
    }

    /// Fails with the end of its log if it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.try_wait()? {
            Some(status) => bail!("{} ended ({status}):\n{}", self.name, self.log_tail()),
            None if self.child.is_none() => bail!("{} does not run", self.name),
            None => Ok(()),
        }
    }

    /// Its exit status, once it has ended by itself.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let status = child.try_wait()?;
        if status.is_some() {
            self.release();
        }
        Ok(status)
    }

    /// Waits until it has ended by itself.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + deadline;
        loop {
            if self.child.is_none() {
                bail!("{} does not run", self.name);
            }
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!(
                    "{} has not ended after {deadline:?}:\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self
            .pid()
            .with_context(|| format!("{} does not run", self.name))?;
        let pid = Pid::from_raw(pid.try_into()?).context("process id 0")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// SIGTERM, and after the deadline SIGKILL. The data stays for a start.
    pub async fn stop(&mut self, deadline: Duration) -> Result<()> {
        if !self.running()? {
            return Ok(());
        }
        self.signal(Signal::TERM)?;
        self.signal(Signal::CONT)?;
        if self.wait(deadline).await.is_err() {
            self.kill()?;
        }
        Ok(())
    }

    /// SIGKILL, and waits for the end. The data stays for a start.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(child) = &mut self.child {
            // `wait` closes the pipe, and the watchdog would take that for our death.
            let watchdog = child.stdin.take();
            child.kill()?;
            child.wait()?;
            child.stdin = watchdog;
            self.release();
        }
        Ok(())
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// The last lines it wrote.
    pub fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL_BYTES_MAX)..]).into_owned()
    }

    /// Tells the watchdog of a child that was waited for to go, leaving the directory.
    fn release(&mut self) {
        if let Some(mut stdin) = self.child.take().and_then(|mut child| child.stdin.take()) {
            let _ = stdin.write_all(b"released\n");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn sleeping() -> Server {
        let mut server = Server::new("test").unwrap();
        server.command(["sleep", "600"]);
        server.start().unwrap();
        server
    }

    /// Running or a zombie: not gone.
    fn exists(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !condition() {
            assert!(Instant::now() < end, "not in time: {what}");
            std::thread::sleep(POLL);
        }
    }

    /// The processes of a server's group: itself and its watchdog.
    fn group(leader: u32) -> Vec<u32> {
        let processes = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let in_group = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // After "pid (name) state ppid" comes the group.
            let group = stat
                .rsplit(") ")
                .next()
                .and_then(|rest| rest.split(' ').nth(2)?.parse().ok());
            group == Some(leader)
        };
        processes.filter(in_group).collect()
    }

    #[test]
    fn a_dropped_server_leaves_no_process_and_no_file() {
        let server = sleeping();
        let (pid, directory) = (server.pid().unwrap(), server.directory().to_owned());
        assert!(exists(pid) && directory.exists());
        drop(server);
        assert!(!exists(pid) && !directory.exists());
        wait_until("the watchdog is gone", || group(pid).is_empty());
    }

    #[test]
    fn a_server_whose_holder_died_is_killed_and_its_directory_removed() {
        let mut server = sleeping();
        let (pid, directory) = (server.pid().unwrap(), server.directory().to_owned());
        wait_until("the watchdog watches", || group(pid).len() == 2);
        server.freeze().unwrap();
        // What the kernel does with our end of the pipe when we are killed.
        drop(server.child.as_mut().unwrap().stdin.take());
        wait_until("the server is dead", || {
            server.try_wait().unwrap().is_some()
        });
        wait_until("the directory is gone", || !directory.exists());
        wait_until("the watchdog is gone", || group(pid).is_empty());
    }

    #[tokio::test]
    async fn a_server_keeps_its_files_over_kill_stop_and_start() {
        let mut server = sleeping();
        fs::write(server.directory().join("data"), "kept").unwrap();
        let first = server.pid().unwrap();
        server.kill().unwrap();
        wait_until("the watchdog is gone", || group(first).is_empty());
        assert!(!server.running().unwrap());
        server.start().unwrap();
        assert!(server.start().is_err(), "started twice");
        server.freeze().unwrap();
        server.stop(DEADLINE).await.unwrap();
        assert_eq!(
            fs::read_to_string(server.directory().join("data")).unwrap(),
            "kept"
        );
    }

    #[tokio::test]
    async fn an_early_end_is_reported_with_the_log() {
        let mut server = Server::new("test").unwrap();
        server.command(["sh", "-c", "echo port in use; exit 48"]);
        server.start().unwrap();
        assert_eq!(server.wait(DEADLINE).await.unwrap().code(), Some(48));
        assert!(server.log_tail().contains("port in use"));
    }
}
