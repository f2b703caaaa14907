//! The pod as it is shipped: what Kubernetes says to the manifests, what its ServiceAccounts may
//! do, and its containers as processes with exactly the environment, arguments, volumes and probes
//! that the manifests give them.

mod access;
mod datastore;
mod documented;
mod image;
mod kafka;
mod manifests;
mod observability;
mod overlays;
mod pod;
mod run;
mod scripts;
mod shipped;
mod takeover;
