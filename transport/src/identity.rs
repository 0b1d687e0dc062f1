//! Identities: Ed25519 key pairs, whose public half names a host or a client.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, BASE64};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::{self, PemObject};
use serde::{Deserialize, Serialize};

/// What the text of a public key begins with.
pub const KEY_PREFIX: &str = "ed25519:";
/// Characters of a public key after the prefix: 32 bytes in base32 without padding.
pub const KEY_TEXT_CHARS: usize = 52;

/// The public half of an identity. Its text is both the key and the fingerprint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{KEY_PREFIX}{}",
            BASE32_NOPAD.encode(&self.0).to_ascii_lowercase()
        )
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublicKeyError {
    /// Another kind of key, or none.
    #[error("a key begins with \"{KEY_PREFIX}\"")]
    Prefix,
    /// Something is missing or too much.
    #[error("a key has {KEY_TEXT_CHARS} characters after \"{KEY_PREFIX}\", this has {actual}")]
    Length {
        /// Characters found
        actual: usize,
    },
    /// A character that base32 does not have, or left-over bits in the last one.
    #[error("a key has only the letters a to z and the digits 2 to 7: check character {position}")]
    Character {
        /// Where, counted from 1 after the prefix
        position: usize,
    },
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    /// Upper and lower case are the same.
    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let text = text.to_ascii_uppercase();
        let digits = text
            .strip_prefix(&KEY_PREFIX.to_ascii_uppercase())
            .ok_or(PublicKeyError::Prefix)?;
        let actual = digits.chars().count();
        if actual != KEY_TEXT_CHARS {
            return Err(PublicKeyError::Length { actual });
        }
        let bytes =
            BASE32_NOPAD
                .decode(digits.as_bytes())
                .map_err(|error| PublicKeyError::Character {
                    position: error.position + 1,
                })?;
        bytes
            .try_into()
            .map(PublicKey)
            .map_err(|_| PublicKeyError::Length { actual })
    }
}

/// Why a text is no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Not PEM, or without a private key in it.
    #[error("no \"PRIVATE KEY\" section can be read")]
    Pem(#[source] pem::Error),
    /// Not an Ed25519 key.
    #[error("the private key is not an Ed25519 key: {reason}")]
    Key {
        /// The words of the cryptography library
        reason: String,
    },
}

/// An Ed25519 key pair. `Debug` shows the public half only.
pub struct Identity {
    pkcs8: PrivatePkcs8KeyDer<'static>,
    public: PublicKey,
}

impl Identity {
    /// A new identity from the system's random bytes.
    ///
    /// # Panics
    ///
    /// When the system has no random bytes to give.
    pub fn generate() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .expect("the system gives random bytes");
        Self::from_pkcs8(document.as_ref().to_vec().into()).expect("a key that ring made")
    }

    /// Reads the first private key of a PEM text, in PKCS #8.
    ///
    /// # Errors
    ///
    /// When there is none, or it is not an Ed25519 key.
    pub fn from_pem(text: &str) -> Result<Self, IdentityError> {
        let pkcs8 =
            PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(IdentityError::Pem)?;
        Self::from_pkcs8(pkcs8)
    }

    /// The key pair as PEM, in PKCS #8. It holds the private key: keep it from other eyes.
    pub fn to_pem(&self) -> String {
        let base64 = BASE64.encode(self.pkcs8.secret_pkcs8_der());
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        for (index, character) in base64.chars().enumerate() {
            if index > 0 && index % 64 == 0 {
                pem.push('\n');
            }
            pem.push(character);
        }
        pem.push_str("\n-----END PRIVATE KEY-----\n");
        pem
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(crate) fn pkcs8(&self) -> PrivatePkcs8KeyDer<'static> {
        self.pkcs8.clone_key()
    }

    fn from_pkcs8(pkcs8: PrivatePkcs8KeyDer<'static>) -> Result<Self, IdentityError> {
        // Keys of the first version of PKCS #8, as OpenSSL writes them, lack the public half.
        // ring derives it, and checks it where it is there.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8.secret_pkcs8_der()).map_err(
            |rejected| IdentityError::Key {
                reason: rejected.to_string(),
            },
        )?;
        let public = pair
            .public_key()
            .as_ref()
            .try_into()
            .expect("Ed25519 keys have 32 bytes");
        Ok(Identity {
            pkcs8,
            public: PublicKey(public),
        })
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Identity {
            pkcs8: self.pkcs8(),
            public: self.public,
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_keeps_the_identity() {
        let identity = Identity::generate();
        let read = Identity::from_pem(&identity.to_pem()).expect("own PEM");
        assert_eq!(read.public(), identity.public());
        assert_ne!(Identity::generate().public(), identity.public());
    }

    #[test]
    fn reads_keys_of_openssl() {
        // The key of RFC 8032, section 7.1, test 1, as `openssl genpkey` would write it.
        let pem = "-----BEGIN PRIVATE KEY-----\n\
            MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
            -----END PRIVATE KEY-----\n";
        let identity = Identity::from_pem(pem).expect("an Ed25519 key");
        assert!(identity.public().0.starts_with(&[0xd7, 0x5a, 0x98, 0x01]));
    }

    #[test]
    fn debug_and_display_do_not_show_the_private_key() {
        let identity = Identity::generate();
        let shown = format!("{identity:?}");
        assert_eq!(
            shown,
            format!("Identity {{ public: {}, .. }}", identity.public())
        );
    }

    #[test]
    fn keys_have_one_text() {
        let key = PublicKey([0xAB; 32]);
        let text = key.to_string();
        assert_eq!(text.len(), KEY_PREFIX.len() + KEY_TEXT_CHARS);
        assert_eq!(text.parse(), Ok(key));
        assert_eq!(text.to_uppercase().parse(), Ok(key));
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said() {
        let text = PublicKey([0; 32]).to_string();
        let parse = |text: &str| text.parse::<PublicKey>();
        assert_eq!(parse("rsa:aaaa"), Err(PublicKeyError::Prefix));
        assert_eq!(parse("ed25519:"), Err(PublicKeyError::Length { actual: 0 }));
        assert_eq!(
            parse(&format!("{text}a")),
            Err(PublicKeyError::Length { actual: 53 })
        );
        let wrong = text.replacen(":aa", ":a1", 1);
        assert_eq!(
            parse(&wrong),
            Err(PublicKeyError::Character { position: 2 })
        );
        // The last character holds one bit of the key; its other bits are zero.
        let trailing = format!("{}b", &text[..text.len() - 1]);
        assert_eq!(
            parse(&trailing),
            Err(PublicKeyError::Character { position: 52 })
        );
        assert!(parse("ed25519:é").is_err());
    }

    #[test]
    fn other_texts_are_no_identities() {
        assert!(matches!(
            Identity::from_pem("hello"),
            Err(IdentityError::Pem(_))
        ));
        let empty = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(
            Identity::from_pem(empty),
            Err(IdentityError::Key { .. })
        ));
    }
}
