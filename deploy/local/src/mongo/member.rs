//! One `mongod`: its port and its command line.

use std::path::Path;

use anyhow::{Context, Result};

use super::{MongoOptions, REPLICA_SET, Topology};
use crate::certificates::write_private;
use crate::port;
use crate::process::Server;
use crate::toxiproxy::{Proxy, Toxiproxy};

/// A server of a set, or the standalone one.
pub(super) struct Member {
    pub(super) server: Server,
    pub(super) port: u16,
    pub(super) proxy: Option<Proxy>,
}

impl Member {
    /// Ready to start; members of one set share a key.
    pub(super) fn new(mongod: &Path, options: &MongoOptions, key: Option<&str>) -> Result<Member> {
        let (mut server, port) = (Server::new("mongod")?, port::free()?);
        let data = server.directory().join("data");
        std::fs::create_dir(&data)?;
        let mut command: Vec<String> = vec![
            mongod
                .to_str()
                .context("the path of mongod is not UTF-8")?
                .to_owned(),
        ];
        let mut add = |arguments: &[&str]| {
            command.extend(arguments.iter().map(|&argument| argument.to_owned()))
        };
        add(&[
            "--dbpath",
            &data.to_string_lossy(),
            "--port",
            &port.to_string(),
            "--bind_ip",
            "127.0.0.1",
        ]);
        add(&[
            "--nounixsocket",
            "--wiredTigerCacheSizeGB",
            "0.5",
            "--oplogSize",
            &options.oplog_mb.to_string(),
        ]);
        add(&[
            "--setParameter",
            "enableTestCommands=1",
            "--setParameter",
            "diagnosticDataCollectionEnabled=false",
        ]);
        for parameter in &options.parameters {
            add(&["--setParameter", parameter]);
        }
        if let Topology::ReplicaSet(_) = options.topology {
            add(&["--replSet", REPLICA_SET]);
        }
        if let Some(key) = key {
            let path = server.directory().join("key");
            write_private(&path, key)?;
            add(&["--auth"]);
            if let Topology::ReplicaSet(_) = options.topology {
                add(&["--keyFile", &path.to_string_lossy()]);
            }
        }
        if let Some(tls) = &options.tls {
            add(&[
                "--tlsMode",
                "requireTLS",
                "--tlsAllowConnectionsWithoutCertificates",
            ]);
            add(&["--tlsCAFile", &tls.ca.to_string_lossy()]);
            add(&[
                "--tlsCertificateKeyFile",
                &tls.key_and_certificate.to_string_lossy(),
            ]);
        }
        server.command(command);
        let upstream = format!("127.0.0.1:{port}");
        let proxy = |toxiproxy: &Toxiproxy| toxiproxy.proxy(&format!("mongod-{port}"), &upstream);
        Ok(Member {
            server,
            port,
            proxy: options.proxies.as_ref().map(proxy).transpose()?,
        })
    }

    /// `host:port` of the server itself.
    pub(super) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
