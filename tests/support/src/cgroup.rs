//! A bound on memory as a container has it, where this machine lets a test make one.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use local_stack::left_out;

/// A control group. Dropped, it is removed; its processes must have ended.
pub struct Cgroup {
    folder: PathBuf,
    peak: &'static str,
}

impl Cgroup {
    /// One whose processes may hold so many bytes together; `None`, and a line that says so, where
    /// none can be made (no root, or no controller).
    pub fn with_memory_max(bytes: u64) -> Option<Cgroup> {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let (process, made) = (std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let name = format!("workflows-sink-{process}-{made}");
        // The first version has a hierarchy for memory alone.
        let hierarchies = [
            (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.max_usage_in_bytes",
            ),
            ("/sys/fs/cgroup", "memory.max", "memory.peak"),
        ];
        for (root, limit, peak) in hierarchies {
            let folder = Path::new(root).join(&name);
            if fs::create_dir(&folder).is_err() {
                continue;
            }
            let cgroup = Cgroup { folder, peak };
            if fs::write(cgroup.folder.join(limit), bytes.to_string()).is_ok() {
                return Some(cgroup);
            }
        }
        left_out("no control group can be made here, so nothing bounds the memory");
        None
    }

    /// The command that runs `command` in it.
    pub fn within(&self, command: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
        let script = "echo $$ >\"$1\" && shift && exec \"$@\"";
        let mut all: Vec<OsString> = ["sh", "-c", script, "within"].map(Into::into).into();
        all.push(self.folder.join("cgroup.procs").into());
        all.extend(command);
        all
    }

    /// The most bytes that its processes held together; `None` where the kernel does not keep it
    /// (`memory.peak` came with Linux 5.19).
    pub fn peak_bytes(&self) -> Option<u64> {
        let text = fs::read_to_string(self.folder.join(self.peak)).ok()?;
        Some(text.trim().parse().expect("a number"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}
