//! `admin`: the users of MongoDB and their Secrets.

mod provision;
mod quick_check;
mod rotate;
mod secret;

use std::{io::Write, path::PathBuf, time::Duration};

use crate::admin::config;
use crate::admin::look::Scene;
use crate::admin::secrets::directory::Directory;
use crate::admin::secrets::kubernetes::Kubernetes;
use crate::admin::secrets::store::Store;
use crate::admin::sidecar::{self, Duty};
use crate::admin::table::User;
use crate::cli::{AdminCommand, Secrets};
use crate::config::startup::StartupError;

/// How long a command retries transient failures: an election, a restart of the API server.
const PATIENCE: Duration = Duration::from_secs(60);

/// Executes a command, and prints its result.
///
/// # Errors
/// What failed, and what to change.
pub async fn execute(
    config: config::Admin,
    command: AdminCommand,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    match command {
        AdminCommand::Provision {
            users,
            prune_roles,
            dry_run,
            secrets,
            json,
        } => {
            let users = select(&config, &users.names)?;
            let store = store(&config, secrets).await?;
            let options = provision::Options {
                prune_roles,
                dry_run,
                json,
            };
            provision::execute(scene(&config, &store), &users, options, out).await
        }
        AdminCommand::Rotate {
            user,
            status,
            secrets,
            json,
        } => {
            let users = select(&config, &[user])?;
            let store = store(&config, secrets).await?;
            let scene = scene(&config, &store);
            match status {
                true => rotate::status(scene, &users[0], json, out).await,
                false => rotate::execute(scene, &users[0], json, out).await,
            }
        }
        AdminCommand::Serve {
            users,
            publish,
            prune_roles,
            secrets,
        } => {
            let users = select(&config, &users.names)?;
            let store = store(&config, secrets).await?;
            let duty = duty(users, publish, prune_roles)?;
            sidecar::serve(config, store, duty).await
        }
        AdminCommand::Secret(command) => secret::execute(&config, command, out).await,
        AdminCommand::QuickCheck {
            users,
            secrets,
            json,
        } => {
            let selected = select(&config, &users.names)?;
            let store = store(&config, secrets).await?;
            let whom = quick_check::Whom {
                users: selected,
                are_named: !users.names.is_empty(),
            };
            quick_check::execute(scene(&config, &store), &whom, json, out).await
        }
    }
}

fn duty(users: Vec<User>, publish: Option<PathBuf>, prune_roles: bool) -> anyhow::Result<Duty> {
    if publish.is_some() && users.len() != 1 {
        let why = "--publish shows the Secret of one user: name it with --user".to_owned();
        return Err(StartupError::configuration(why).into());
    }
    Ok(Duty {
        users,
        publish,
        prune_roles,
    })
}

fn scene<'a>(config: &'a config::Admin, store: &'a Store) -> Scene<'a> {
    Scene { config, store }
}

fn select(config: &config::Admin, names: &[String]) -> anyhow::Result<Vec<User>> {
    let selected = config.table.select(names);
    selected.map_err(|fault| StartupError::configuration(fault).into())
}

async fn store(config: &config::Admin, secrets: Secrets) -> anyhow::Result<Store> {
    Ok(match secrets.secrets_dir {
        Some(directory) => Store::Directory(Directory::new(directory)),
        None => {
            let store = Kubernetes::new(config.namespace.as_deref()).await;
            let store = store.map_err(|why| StartupError::configuration(why.to_string()))?;
            Store::Kubernetes(store)
        }
    })
}
