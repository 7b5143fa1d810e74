//! A running server, asked over HTTP.

use std::path::PathBuf;
use std::time::Duration;

use otus_engine::{Error, Result};
use serde_json::Value;

use crate::config::ServerConfig;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(600);

/// Which server.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Remote {
    /// Address of the running server; if not given, the one in the configuration, else
    /// http://127.0.0.1:8080
    #[arg(long, value_name = "URL", env = "OTUS_SERVER")]
    server: Option<String>,
    /// A bearer token, where the server knows users; from the environment only
    #[arg(skip = std::env::var("OTUS_TOKEN").ok())]
    token: Option<String>,
    /// The configuration that names the server
    #[arg(short, long, value_name = "FILE", default_value = "otus.toml", env = "OTUS_CONFIG")]
    config: PathBuf,
}

/// What it answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) is_success: bool,
    pub(crate) body: String,
}

impl Answer {
    /// What the server said when it did not do it.
    pub(crate) fn refusal(&self) -> Error {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let error = &body["error"];
        let said = Error::invalid(error["message"].as_str().unwrap_or(&self.body));
        match error["hint"].as_str() {
            Some(hint) => said.with_hint(hint),
            None => said,
        }
    }
}

impl Remote {
    pub(crate) async fn post(
        &self,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Answer> {
        let base = self.base();
        let request = client()?
            .post(format!("{base}{path}"))
            .header("content-type", content_type)
            .body(body)
            .timeout(PATIENCE);
        self.send(&base, request).await
    }

    /// The body of what the server has at a path.
    pub(crate) async fn get(&self, path: &str) -> Result<String> {
        let base = self.base();
        let request = client()?.get(format!("{base}{path}")).timeout(PATIENCE);
        let answer = self.send(&base, request).await?;
        if !answer.is_success {
            return Err(answer.refusal());
        }
        Ok(answer.body)
    }

    /// The server's base address, without a slash at its end.
    fn base(&self) -> String {
        let configured = || ServerConfig::of_file(&self.config).map(|server| server.http);
        let server = self.server.clone().or_else(configured);
        let server = server.unwrap_or_else(|| ServerConfig::default().http);
        let server = server.trim_end_matches('/');
        if server.contains("://") { server.to_string() } else { format!("http://{server}") }
    }

    async fn send(&self, base: &str, request: reqwest::RequestBuilder) -> Result<Answer> {
        let cannot = |e: reqwest::Error| {
            let error = Error::unavailable(format!("server {base} does not answer"));
            let hint = "is it running? start it with `otus serve`, or `otus demo` to try";
            error.with_source(e).with_hint(hint)
        };
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request.send().await.map_err(cannot)?;
        let is_success = response.status().is_success();
        let body = response.text().await.map_err(cannot)?;
        Ok(Answer { is_success, body })
    }
}

fn client() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .map_err(|e| Error::internal("no HTTP client can be made").with_source(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_as_other_errors_are() {
        let told = |body: &str| {
            let refusal = Answer { is_success: false, body: body.into() }.refusal();
            (refusal.to_string(), refusal.hint().map(str::to_string))
        };
        assert_eq!(
            told(r#"{"error":{"code":"invalid","message":"offset 9 is outside t/0","hint":"h"}}"#),
            ("offset 9 is outside t/0".into(), Some("h".into()))
        );
        assert_eq!(told("no JSON"), ("no JSON".into(), None));
    }
}
