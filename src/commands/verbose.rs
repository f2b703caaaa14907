//! `verbose`: the signal that makes a process of ours log more, for a container without a shell.

use std::fs;
use std::io::Write;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Makes the process `pid` log at `debug` for ten minutes; where it does already, ends that.
///
/// # Errors
/// Where there is no such process, it is none of ours that serves (the signal would end it), or
/// belongs to another user.
pub fn toggle(pid: i32, out: &mut impl Write) -> anyhow::Result<()> {
    let raw = (pid > 0).then(|| Pid::from_raw(pid)).flatten();
    let process = raw.with_context(|| format!("{pid} is no process: name one with --pid"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"));
    let status = status.with_context(|| format!("the process {pid} cannot be looked at"))?;
    ensure!(
        is_ours(&status),
        "the process {pid} is no `workflows-sink run` or `admin serve`: name one with --pid"
    );
    kill_process(process, Signal::USR1)
        .with_context(|| format!("the process {pid} takes no signal from this user"))?;
    Ok(writeln!(
        out,
        "the process {pid} logs at debug for ten minutes, or as it is configured where it did \
         already: its log says which"
    )?)
}

/// Whether this is the `/proc/PID/status` of a process of this program that catches the signal;
/// proc(5).
fn is_ours(status: &str) -> bool {
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    };
    let caught = field("SigCgt").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    let bit = 1 << (Signal::USR1.as_raw() - 1);
    field("Name") == Some(env!("CARGO_PKG_NAME")) && caught.is_some_and(|mask| mask & bit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_of_ours_that_catches_the_signal_gets_it() {
        let status =
            |name: &str, caught: &str| format!("Name:\t{name}\nPid:\t1\nSigCgt:\t{caught}\n");
        assert!(is_ours(&status("workflows-sink", "0000000100000200")));
        assert!(!is_ours(&status("workflows-sink", "0000000100000000")));
        assert!(!is_ours(&status("postgres", "0000000100000200")));
        assert!(!is_ours(""));
        let own = std::process::id().try_into().expect("a pid");
        for pid in [own, 0, -1, i32::MAX] {
            assert!(toggle(pid, &mut Vec::new()).is_err(), "{pid}");
        }
    }
}
