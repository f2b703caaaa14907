//! What keeps the service from starting, and its exit code.

use std::io;

use crate::telemetry::code::Code;

/// Exit code of an invalid configuration: EX_CONFIG of sysexits.h.
pub const EXIT_CONFIG: u8 = 78;

/// Exit code of every other failure.
pub const EXIT_FAILURE: u8 = 1;

/// A fault that lasts until a person changes something: one line that names the variable or the
/// command.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartupError(String);

impl StartupError {
    /// `why` names the variable to set or the command to run, and shows no secret.
    pub fn configuration(why: String) -> Self {
        StartupError(why)
    }
}

/// The name of an error that ends the process.
pub fn code(error: &anyhow::Error) -> Code {
    let of_configuration = error
        .chain()
        .any(|cause| cause.is::<StartupError>() || cause.is::<crate::config::ConfigErrors>());
    match of_configuration {
        true => Code::Configuration,
        false => Code::Ended,
    }
}

/// The exit code for it.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    match code(error) {
        Code::Configuration => EXIT_CONFIG,
        _ => EXIT_FAILURE,
    }
}

/// Whether it is the reader of the output who has seen enough: no failure.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn a_fault_of_the_configuration_has_an_exit_code_of_its_own() {
        let error = anyhow!(StartupError::configuration(
            "the topic x does not exist".to_owned()
        ));
        assert_eq!(exit_code(&error), 78);
        let wrapped = Err::<(), _>(error).context("starting").unwrap_err();
        assert_eq!(exit_code(&wrapped), 78);
        let faults = crate::config::Config::from_vars(std::iter::empty()).unwrap_err();
        assert_eq!(exit_code(&faults.into()), 78);
        assert_eq!(exit_code(&anyhow!("lane t/0 ended")), 1);
    }
}
