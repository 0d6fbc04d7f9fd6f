//! Certificates for tests: an authority, and what it issues, also what has expired.
use std::{fs, path::Path};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// Who signs.
#[derive(Debug)]
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Debug)]
pub struct Issued {
    certificate: String,
    key: String,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// Writes its certificate.
    pub fn write(&self, path: &Path) -> Result<()> {
        Ok(fs::write(path, &self.pem)?)
    }

    /// A certificate for a name, for clients and servers.
    pub fn issue(&self, name: &str) -> Result<Issued> {
        self.sign(name, |_| {})
    }

    /// One that was good long ago.
    pub fn expired(&self, name: &str) -> Result<Issued> {
        self.sign(name, |params| {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        })
    }

    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Result<Issued> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}

impl Issued {
    /// Writes both.
    pub fn write(&self, certificate: &Path, key: &Path) -> Result<()> {
        // The key first: who looks in between finds a pair that does not fit and keeps what he had.
        fs::write(key, &self.key)?;
        Ok(fs::write(certificate, &self.certificate)?)
    }
}
