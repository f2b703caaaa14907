//! An outline: command line, configuration, log, runtime, exit code.

use std::{
    io::{self, BufWriter, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Parser as _;
use workflows_sink::admin::config::Admin as AdminConfig;
use workflows_sink::cli::{self, AdminCommand, Cli, Command};
use workflows_sink::commands::output::Output;
use workflows_sink::commands::{
    NotHealthy, admin, check, dead_letters, explain, offsets, settings, status, verbose,
};
use workflows_sink::config::{Config, ConfigErrors, startup};
use workflows_sink::service::{self, allocator};
use workflows_sink::telemetry::code::Code;
use workflows_sink::telemetry::logging::{self, Log};

/// How long tasks that nobody awaits may take to end.
const ABANDONED_MAX: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // Written by the block: a line at a time, a long list is mostly system calls.
    let mut out = Output::new(BufWriter::new(io::stdout()));
    let command = Cli::parse().command;
    let serves = matches!(
        command,
        Command::Run | Command::Admin(AdminCommand::Serve { .. })
    );
    let ended = execute(command, &mut out);
    // What was printed stands before the error.
    let flushed = out.flush();
    match ended.and_then(|()| Ok(flushed?)) {
        Ok(()) => ExitCode::SUCCESS,
        // the reader of the output has seen enough
        Err(error) if startup::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error, serves);
            startup::exit_code(&error).into()
        }
    }
}

/// What ends the process: to the log where it serves, else to a person.
fn report(error: &anyhow::Error, serves: bool) {
    if error.is::<NotHealthy>() {
        return;
    }
    if let Some(faults) = error.downcast_ref::<ConfigErrors>()
        && serves
        && logging::init_json_if_set()
    {
        for fault in &faults.0 {
            tracing::error!(
                code = %Code::Configuration,
                variable = fault.variable,
                example = fault.example,
                "{}",
                fault.fault
            );
        }
        return;
    }
    let code = startup::code(error);
    match serves && tracing::dispatcher::has_been_set() {
        true => tracing::error!(%code, "{error:#}"),
        false if serves || code == Code::Configuration => {
            print_error(&format!("{code}: {error:#}"))
        }
        false => print_error(&format!("{error:#}")),
    }
}

/// To a person; where standard error is closed or full, there is nobody to tell.
fn print_error(text: &str) {
    let _ = writeln!(io::stderr(), "error: {text}");
}

fn execute(command: Command, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        Command::Completions { shell } => Ok(cli::completions(shell, out)?),
        Command::Man => Ok(cli::man(out)?),
        Command::Run => {
            allocator::map_large_blocks();
            with_config(async |config| service::run(config).await)
        }
        Command::Admin(command) => {
            let config = AdminConfig::from_env()?;
            let log = config.log.clone();
            in_runtime(&log, admin::execute(config, command, out))
        }
        Command::Status { watch, json } => {
            with_config(async |config| status::execute(&config, watch, json, out).await)
        }
        Command::Check {
            offline,
            sample,
            mapping,
            json,
        } => with_config(async |config| {
            let checked = check::Checked {
                offline,
                sample,
                mapping: mapping.as_deref(),
            };
            check::execute(&config, &checked, json, out).await
        }),
        Command::Explain { key, history, json } => {
            with_config(async |config| explain::execute(&config, &key, history, json, out).await)
        }
        Command::Config(command) => settings::show(command, out),
        Command::Mapping(command) => settings::mapping(command, out),
        Command::Verbose { pid } => verbose::toggle(pid, out),
        Command::Offsets(command) => {
            with_config(async |config| offsets::execute(&config, command, out).await)
        }
        Command::DeadLetters(command) => {
            with_config(async |config| dead_letters::execute(&config, command, out).await)
        }
    }
}

fn with_config(job: impl AsyncFnOnce(Config) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let config = Config::from_env()?;
    let log = config.log.clone();
    in_runtime(&log, job(config))
}

fn in_runtime(log: &Log, job: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    logging::init(log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(job);
    logging::demote_panics();
    runtime.shutdown_timeout(ABANDONED_MAX);
    ended
}
