//! What a command tries again.

use std::io;
use std::sync::Arc;

use super::super::*;
use super::command;

#[test]
fn a_command_tries_again_only_where_that_may_help() {
    for (code, may) in [
        (91, true),
        (189, true),
        (246, true),
        (251, true),
        (262, true),
        (11, false),
        (13, false),
        (18, false),
        (15, false),
        (61, false),
        (121, false),
        (40_415, false),
    ] {
        assert_eq!(may_pass(&command(code)), may, "{code}");
    }
    let away = ErrorKind::Io(Arc::new(io::ErrorKind::TimedOut.into()));
    assert!(may_pass(&away.into()));
}
