//! Throw-away authorities, and certificates that come from them.

use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// An authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
    name: String,
}

/// The files that a process needs for mutual TLS.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// Its certificate.
    pub cert: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// The authority that it trusts: its own.
    pub ca: PathBuf,
}

impl Authority {
    /// A new authority, with its certificate in a folder.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(folder: &Path, name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        fs::write(folder.join(format!("{name}.crt")), params.self_signed(&key)?.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), folder: folder.to_owned(), name: name.to_owned() })
    }

    /// A certificate for whoever is at these addresses.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn issue(&self, subject: &str, addresses: &[IpAddr]) -> Result<Certificate> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, subject);
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        let file = |end: &str| self.folder.join(format!("{}-{subject}.{end}", self.name));
        let issued = Certificate { cert: file("crt"), key: file("key"), ca: self.folder.join(format!("{}.crt", self.name)) };
        fs::write(&issued.cert, params.signed_by(&key, &self.issuer)?.pem())?;
        fs::write(&issued.key, key.serialize_pem())?;
        Ok(issued)
    }
}

impl Certificate {
    /// The flags of Mooring's binaries.
    #[must_use]
    pub fn flags(&self) -> [OsString; 6] {
        self.named(["--tls-cert", "--tls-key", "--tls-ca"])
    }

    /// The flags of grpcurl.
    #[must_use]
    pub fn grpcurl_flags(&self) -> [OsString; 6] {
        self.named(["-cert", "-key", "-cacert"])
    }

    fn named(&self, [cert, key, ca]: [&str; 3]) -> [OsString; 6] {
        let path = |path: &PathBuf| path.clone().into_os_string();
        [cert.into(), path(&self.cert), key.into(), path(&self.key), ca.into(), path(&self.ca)]
    }
}
