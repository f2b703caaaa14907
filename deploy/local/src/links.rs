//! The ways between the nodes of a cluster: each node's way to each other node leads through
//! proxies of its own.
//!
//! Nodes are known to each other by name alone, and each has a file of its own that says where the
//! others are: at proxies on an address of that pair of nodes, and with the ports that the other
//! listens on.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::toxiproxy::{Direction, Proxy, Toxiproxy};

/// Where a node listens for other nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// For followers and coordinators.
    pub internal: u16,
    /// For voters and those who ask the controller.
    pub controller: u16,
}

/// A way from one node to another.
struct Link {
    from: usize,
    to: usize,
    proxy: Proxy,
}

/// All ways between the nodes.
pub(crate) struct Links(Vec<Link>);

/// By which name the nodes know one of them.
pub(crate) fn name(node: usize) -> String {
    format!("node-{}", node + 1)
}

/// Where `from` finds `to`.
fn address(from: usize, to: usize) -> Ipv4Addr {
    match from == to {
        true => Ipv4Addr::LOCALHOST,
        false => Ipv4Addr::new(127, 10, from as u8 + 1, to as u8 + 1),
    }
}

impl Links {
    /// A way from each of the nodes to each other one.
    pub(crate) fn start(toxiproxy: &Toxiproxy, nodes: &[Ports]) -> Result<Links> {
        let mut links = Vec::new();
        for from in 0..nodes.len() {
            for (to, ports) in nodes.iter().enumerate().filter(|(to, _)| *to != from) {
                for port in [ports.internal, ports.controller] {
                    let name = format!("{}-{}-{port}", name(from), name(to));
                    let upstream = format!("127.0.0.1:{port}");
                    let at = address(from, to);
                    let proxy = toxiproxy.proxy_at(&name, at, port, &upstream)?;
                    links.push(Link { from, to, proxy });
                }
            }
        }
        Ok(Links(links))
    }

    /// Writes the file by which the Java program of a node finds `nodes`; the option that names it.
    pub(crate) fn option(node: usize, nodes: usize, directory: &Path) -> Result<String> {
        let file: PathBuf = directory.join("hosts");
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
        let mut lines = format!("127.0.0.1 localhost {}\n", own.trim());
        for to in 0..nodes {
            lines += &format!("{} {}\n", address(node, to), name(to));
        }
        std::fs::write(&file, lines)?;
        Ok(format!("-Djdk.net.hosts.file={}", file.display()))
    }

    /// Lets no request pass to or from a node.
    pub(crate) fn cut_off(&self, node: usize) -> Result<()> {
        let mut links = self.of(node);
        links.try_for_each(|link| link.proxy.black_hole(Direction::Upstream))
    }

    /// Lets everything pass again.
    pub(crate) fn heal(&self, node: usize) -> Result<()> {
        self.of(node).try_for_each(|link| link.proxy.heal())
    }

    fn of(&self, node: usize) -> impl Iterator<Item = &Link> {
        let of_node = move |link: &&Link| link.from == node || link.to == node;
        self.0.iter().filter(of_node)
    }
}
