//! The ways to log in, as configured.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidings_broker::auth::{
    Authenticate, CertificateIsUser, LoginLimits, Logins, OpenUntilUsers, TokenAlgorithm,
    TokenOptions, Tokens, UsersFile, Webhook, WebhookOptions,
};

use crate::config::Config;
use crate::exit::{Exit, Failure};

/// Who decides about logins.
pub(crate) fn authenticate(
    config: &Config,
    users: &Arc<UsersFile>,
) -> Result<Arc<dyn Authenticate>, Failure> {
    let others = by_password(config, Arc::clone(users))?;
    if config.tls.certificate_is_user {
        return Ok(Arc::new(CertificateIsUser::new(others)));
    }
    Ok(others)
}

fn by_password(config: &Config, users: Arc<UsersFile>) -> Result<Arc<dyn Authenticate>, Failure> {
    let tokens = tokens(config)?;
    if !config.has_other_logins() {
        return Ok(Arc::new(OpenUntilUsers::new(users)));
    }
    let mut logins = Logins::new(users);
    if let Some(tokens) = tokens {
        logins = logins.tokens(tokens);
    }
    if let Some(webhook) = webhook(config)? {
        logins = logins.webhook(webhook);
    }
    Ok(Arc::new(logins))
}

/// What failed logins cost.
pub(crate) fn limits(config: &Config) -> LoginLimits {
    let limits = &config.limits;
    LoginLimits {
        failures_per_minute: u32::try_from(limits.login_failures_per_minute).unwrap_or(u32::MAX),
        failure_delay: Duration::from_millis(limits.login_failure_delay_ms),
    }
}

/// What there is besides the users file, for the banner.
pub(crate) fn names(config: &Config) -> Vec<String> {
    let auth = &config.auth;
    let mut names = Vec::new();
    if config.tls.certificate_is_user {
        names.push("client certificates, which name the user".to_owned());
    }
    if !auth.jwt_keys.is_empty() || !auth.jwt_secret_file.is_empty() {
        names.push("JSON Web Tokens as password".to_owned());
    }
    if !auth.webhook_url.is_empty() {
        names.push(format!("logins that {} accepts", auth.webhook_url));
    }
    names
}

fn tokens(config: &Config) -> Result<Option<Tokens>, Failure> {
    let auth = &config.auth;
    // Also where no token is taken yet: it would be found out on the day one is.
    let algorithms = algorithms(&auth.jwt_algorithms)?;
    let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
    let (keys, secret) = (filled(&auth.jwt_keys), filled(&auth.jwt_secret_file));
    if keys.is_none() && secret.is_none() {
        return Ok(None);
    }
    let options = TokenOptions {
        keys: keys.map(PathBuf::from),
        secret: secret.map(PathBuf::from),
        algorithms,
        issuer: filled(&auth.jwt_issuer),
        audience: filled(&auth.jwt_audience),
        user_claim: auth.jwt_user_claim.clone(),
        leeway: Duration::from_secs(auth.jwt_leeway_s),
        failure_delay: limits(config).failure_delay,
    };
    Tokens::open(options).map(Some).map_err(|error| {
        Failure::new(
            Exit::Config,
            format_args!("{error}; see auth.jwt_keys and auth.jwt_secret_file"),
        )
    })
}

fn algorithms(text: &str) -> Result<Vec<TokenAlgorithm>, Failure> {
    let mut found = Vec::new();
    for name in text.split([' ', ',']).filter(|name| !name.is_empty()) {
        let algorithm = TokenAlgorithm::from_name(name);
        let algorithm = algorithm.filter(|it| *it != TokenAlgorithm::Hs256).ok_or_else(|| {
            let mend = match name {
                "HS256" => "; HS256 is accepted where auth.jwt_secret_file is set",
                _ => "",
            };
            Failure::new(
                Exit::Config,
                format_args!(
                    "auth.jwt_algorithms: expected some of EdDSA ES256 RS256, found {name:?}{mend}"
                ),
            )
        })?;
        found.push(algorithm);
    }
    Ok(found)
}

fn webhook(config: &Config) -> Result<Option<Webhook>, Failure> {
    let auth = &config.auth;
    if auth.webhook_url.is_empty() {
        return Ok(None);
    }
    let options = WebhookOptions {
        timeout: Duration::from_millis(auth.webhook_timeout_ms),
        accepted_for: Duration::from_secs(auth.webhook_accepted_s),
        refused_for: Duration::from_secs(auth.webhook_refused_s),
        questions_max: usize::try_from(auth.webhook_questions_max).unwrap_or(usize::MAX),
        limits: limits(config),
        ..WebhookOptions::new(&auth.webhook_url)
    };
    let webhook = Webhook::new(options);
    webhook
        .map(Some)
        .map_err(|error| Failure::new(Exit::Config, format_args!("auth.webhook_url: {error}")))
}
