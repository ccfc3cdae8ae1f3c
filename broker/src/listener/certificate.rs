//! What is read of a certificate: its Common Name, and whether it is its own issuer.

use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::auth::PeerCertificate;

/// What is known of a certificate that was verified.
pub(super) fn peer_certificate(certificate: &CertificateDer<'_>) -> PeerCertificate {
    let parsed = EndEntityCert::try_from(certificate).ok();
    PeerCertificate {
        common_name: parsed.and_then(|parsed| common_name(parsed.subject())),
        der: certificate.to_vec(),
    }
}

/// Whether it names itself as its issuer.
pub(super) fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    EndEntityCert::try_from(certificate).is_ok_and(|parsed| parsed.issuer() == parsed.subject())
}

/// The Common Name in the contents of a subject: sets of attributes, each an OID and a text.
///
/// Two of them name nobody: which one would be believed depends on who looks.
fn common_name(mut subject: &[u8]) -> Option<String> {
    let mut found = None;
    while !subject.is_empty() {
        let (mut set, rest) = value(subject, &[SET])?;
        subject = rest;
        while !set.is_empty() {
            let (attribute, rest) = value(set, &[SEQUENCE])?;
            set = rest;
            let (oid, text) = value(attribute, &[OID])?;
            if oid == COMMON_NAME {
                let (text, _) = value(text, &[UTF8_STRING, PRINTABLE_STRING, IA5_STRING])?;
                if found.replace(std::str::from_utf8(text).ok()?.to_owned()).is_some() {
                    return None;
                }
            }
        }
    }
    found
}

/// The contents of the first element, which has one of these tags, and what follows it.
fn value<'a>(der: &'a [u8], tags: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        short @ ..=0x7f => (usize::from(*short), rest),
        0x81 => {
            let (length, rest) = rest.split_first()?;
            (usize::from(*length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    tags.contains(tag).then(|| rest.split_at_checked(length)).flatten()
}

const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

#[cfg(test)]
mod tests {
    use super::*;

    /// A set with one attribute: the last number of its OID below 2.5.4, its type, its text.
    fn attribute(oid: u8, tag: u8, text: &str) -> Vec<u8> {
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
        let text = [&[tag, length(text.as_bytes())], text.as_bytes()].concat();
        let sequence = [&[OID, 3, 0x55, 0x04, oid][..], &text].concat();
        let set = [&[SEQUENCE, length(&sequence)][..], &sequence].concat();
        [&[SET, length(&set)][..], &set].concat()
    }

    #[test]
    fn common_name_is_found_among_others() {
        let organisation = attribute(10, UTF8_STRING, "Example");
        for tag in [UTF8_STRING, PRINTABLE_STRING, IA5_STRING] {
            let subject = [organisation.clone(), attribute(3, tag, "bob")].concat();
            assert_eq!(common_name(&subject).as_deref(), Some("bob"));
        }
        assert_eq!(common_name(&organisation), None);
        assert_eq!(common_name(&[]), None);
    }

    #[test]
    fn what_is_not_one_text_is_no_name() {
        let bob = attribute(3, UTF8_STRING, "bob");
        assert_eq!(common_name(&[&bob[..], &bob].concat()), None);
        // A string of 16-bit characters.
        assert_eq!(common_name(&attribute(3, 0x1e, "\0b")), None);
        for length in 1..bob.len() {
            assert_eq!(common_name(&bob[..length]), None, "{length}");
        }
    }
}
