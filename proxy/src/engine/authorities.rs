//! Whom to trust when an instance shows its certificate: authorities from files, read once each.
//!
//! A file is read at the start, or for a pool that came with a reload when its first connection needs it. A reload is
//! refused if it cannot be read, so that no request finds that out. It is read again after a restart, not when it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora_core::protocols::tls::CaType;
use pingora_core::utils::tls::{WrappedX509, parse_x509};
use x509_parser::pem::Pem;

/// Authorities by file; as many as pools name.
#[derive(Default)]
pub(super) struct Authorities {
    known: ArcSwap<Vec<(PathBuf, Arc<CaType>)>>,
}

impl Authorities {
    /// The authorities in a PEM file, or why there are none.
    pub(super) fn of(&self, path: &Path) -> Result<Arc<CaType>, String> {
        if let Some((_, found)) = self.known.load().iter().find(|(known, _)| known == path) {
            return Ok(found.clone());
        }
        let read = read(path)?;
        self.known.rcu(|known| {
            let mut known = Vec::clone(known);
            known.push((path.to_owned(), read.clone()));
            known
        });
        Ok(read)
    }
}

fn read(path: &Path) -> Result<Arc<CaType>, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let authorities = Pem::iter_from_buffer(&text).map(|block| {
        let block = block.map_err(|error| error.to_string())?;
        // Pingora's own parser panics on what is no certificate.
        block.parse_x509().map_err(|error| error.to_string())?;
        Ok(WrappedX509::new(block.contents, parse_x509))
    });
    let authorities: Vec<WrappedX509> = authorities.collect::<Result<_, String>>()?;
    if authorities.is_empty() {
        Err("no certificate in PEM in it".to_owned())
    } else {
        Ok(authorities.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_authority_say_why() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let authorities = Authorities::default();
        let why = |path: &Path| authorities.of(path).unwrap_err();
        assert!(why(&folder.path().join("missing.pem")).contains("No such file"));
        assert!(why(&file("text.pem", "not a certificate")).contains("no certificate"));
        let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(!why(&file("nonsense.pem", nonsense)).is_empty());
    }
}
