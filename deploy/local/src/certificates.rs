//! A private certificate authority and what it signs, as files for the servers.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

/// An authority; two of them trust nothing of each other.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: Arc<TempDir>,
}

/// A certificate and its key, in the shapes that Kafka and MongoDB read. The files live as long as a
/// clone of this.
#[derive(Clone)]
pub struct ServerCertificate {
    /// The authority's certificate: what the other side must trust.
    pub ca: PathBuf,
    /// Private key and certificate in one PEM file.
    pub key_and_certificate: PathBuf,
    _directory: Arc<TempDir>,
}

/// A key pair in two PEM files, without a certificate.
pub(crate) struct SigningKey {
    pub(crate) private: PathBuf,
    pub(crate) public: PathBuf,
}

/// A key that tokens are signed with, written into `directory`.
pub(crate) fn signing_key(directory: &Path) -> Result<SigningKey> {
    let key = KeyPair::generate()?;
    let files = SigningKey {
        private: directory.join("signing.key"),
        public: directory.join("signing.pub"),
    };
    write_private(&files.private, &key.serialize_pem())?;
    write_private(&files.public, &key.public_key_pem())?;
    Ok(files)
}

impl Authority {
    /// Makes an authority.
    pub fn new() -> Result<Authority> {
        let directory = tempfile::Builder::new()
            .prefix("workflows-sink-ca-")
            .tempdir()?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "local-stack authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        fs::write(
            directory.path().join("ca.pem"),
            params.self_signed(&key)?.pem(),
        )?;
        Ok(Authority {
            issuer: Issuer::new(params, key),
            directory: Arc::new(directory),
        })
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A certificate for servers on loopback.
    pub fn server(&self) -> Result<ServerCertificate> {
        self.server_named(&["localhost", "127.0.0.1"])
    }

    /// The certificate of a client: its name is `CN=` and `name`.
    pub fn client(&self, name: &str) -> Result<ServerCertificate> {
        self.server_named(&[name])
    }

    /// A certificate for these host names and addresses.
    pub fn server_named(&self, names: &[&str]) -> Result<ServerCertificate> {
        let mut params = CertificateParams::new(
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
        )?;
        params.distinguished_name.push(
            DnType::CommonName,
            names.first().copied().unwrap_or("nobody"),
        );
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Members of a replica set are clients of each other with the same certificate.
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let path = self
            .directory
            .path()
            .join(format!("server-{:016x}.pem", crate::port::random()));
        write_private(&path, &(key.serialize_pem() + &certificate.pem()))?;
        Ok(ServerCertificate {
            ca: self.ca(),
            key_and_certificate: path,
            _directory: Arc::clone(&self.directory),
        })
    }
}

/// Writes a file that only this user may read.
pub fn write_private(path: &Path, contents: &str) -> Result<()> {
    use std::io::Write;
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(path)?;
    Ok(file.write_all(contents.as_bytes())?)
}
