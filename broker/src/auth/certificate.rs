//! Users who show a certificate: its Common Name is who they are.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use super::{Authenticate, Credentials, Decision, Refusal, is_user_name};

/// Takes whoever showed a verified certificate for the user that its subject's Common Name names, and
/// asks for no password. Who showed none is asked by another.
///
/// A CONNECT may leave the User Name out; another than the certificate's is refused, and so is a
/// certificate whose Common Name [`is_user_name`] denies.
#[derive(Debug)]
pub struct CertificateIsUser {
    otherwise: Arc<dyn Authenticate>,
}

impl CertificateIsUser {
    /// By certificate, or else by `otherwise`.
    pub fn new(otherwise: Arc<dyn Authenticate>) -> Self {
        Self { otherwise }
    }
}

impl Authenticate for CertificateIsUser {
    fn authenticate(
        &self,
        credentials: Credentials,
    ) -> Pin<Box<dyn Future<Output = Decision> + Send + '_>> {
        let Some(certificate) = credentials.certificate else {
            return self.otherwise.authenticate(credentials);
        };
        let claimed = credentials.user_name.filter(|claimed| !claimed.is_empty());
        Box::pin(ready(match certificate.common_name {
            Some(name) if is_user_name(&name) && claimed.is_none_or(|claimed| claimed == name) => {
                Decision::accept(name)
            }
            _ => Decision::Refuse(Refusal::BadUserNameOrPassword),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{OpenOnLoopback, PeerCertificate};
    use super::*;

    fn decide(common_name: Option<Option<&str>>, user: Option<&str>) -> Decision {
        let certificate = common_name
            .map(|name| PeerCertificate { common_name: name.map(Into::into), der: Vec::new() });
        let credentials = Credentials {
            user_name: user.map(Into::into),
            peer: Some("127.0.0.1:9".parse().unwrap()),
            certificate,
            ..Credentials::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let authenticate = CertificateIsUser::new(Arc::new(OpenOnLoopback));
        runtime.block_on(authenticate.authenticate(credentials))
    }

    #[test]
    fn certificate_names_the_user() {
        for user in [None, Some(""), Some("bob")] {
            assert_eq!(decide(Some(Some("bob")), user), Decision::accept("bob"));
        }
        assert_eq!(decide(None, Some("alice")), Decision::accept("alice"));
    }

    #[test]
    fn certificate_that_names_another_or_no_user_is_refused() {
        let refused = Decision::Refuse(Refusal::BadUserNameOrPassword);
        assert_eq!(decide(Some(Some("bob")), Some("alice")), refused);
        assert_eq!(decide(Some(Some("bob/#")), None), refused);
        assert_eq!(decide(Some(None), Some("bob")), refused);
    }
}
