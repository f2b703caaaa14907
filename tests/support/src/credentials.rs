//! A directory of credentials, laid out and swapped as the kubelet does with a mounted Secret.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

/// The directory's setting.
pub const CREDENTIALS_DIR: &str = "DYFF_WORKFLOWS_SINK__CREDENTIALS_DIR";
/// The key of the password in force.
pub const PASSWORD: &str = "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD";
/// The key of the password to come.
pub const PASSWORD_NEXT: &str = "DYFF_MONGODB__WORKFLOWS_SINK_CREDENTIALS__PASSWORD_NEXT";

/// The directory, with as many generations of files as were published.
pub struct Credentials {
    directory: TempDir,
    generation: usize,
}

impl Credentials {
    /// With these files.
    pub fn new(files: &[(&str, &str)]) -> Credentials {
        let directory = TempDir::new().expect("a directory");
        let mut credentials = Credentials {
            directory,
            generation: 0,
        };
        credentials.publish(files);
        credentials
    }

    /// Where they are.
    pub fn path(&self) -> &str {
        self.directory.path().to_str().expect("UTF-8")
    }

    /// Puts these files in the place of all that were there.
    pub fn publish(&mut self, files: &[(&str, &str)]) {
        let root = self.directory.path();
        let before = root.join(format!("..{}", self.generation));
        self.generation += 1;
        let name = format!("..{}", self.generation);
        fs::create_dir(root.join(&name)).expect("a folder");
        for (key, text) in files {
            fs::write(root.join(&name).join(key), text).expect("written");
            // Those that are there already lead to the new generation as soon as it is swapped in.
            let _ = symlink(Path::new("..data").join(key), root.join(key));
        }
        symlink(&name, root.join("..data_tmp")).expect("a link");
        fs::rename(root.join("..data_tmp"), root.join("..data")).expect("swapped");
        let _ = fs::remove_dir_all(before);
    }

    /// Makes a key unreadable, for root too.
    pub fn spoil(&self, key: &str) {
        let file = self.directory.path().join("..data").join(key);
        fs::remove_file(&file).expect("removed");
        fs::create_dir(&file).expect("a folder");
    }
}
