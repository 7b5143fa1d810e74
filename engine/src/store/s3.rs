//! Object stores that speak S3. Conditional puts go by `If-None-Match`; no lock table is needed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, RetryConfig};

use crate::error::{Error, Result};

/// The log has its own retries with the answer read back, so the client's stay short.
const RETRIES_MAX: usize = 3;
/// Longest that one request with its retries may take.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// The store behind `s3://bucket/prefix`. Credentials and region come from `options`, else from the
/// `AWS_…` environment.
pub(super) fn open(
    url: &str,
    bucket_and_prefix: &str,
    options: &BTreeMap<String, String>,
) -> Result<Arc<dyn ObjectStore>> {
    if bucket_and_prefix.rsplit_once('@').is_some_and(|(b, _)| b.contains(':') || !b.contains('/'))
    {
        // The url is not shown: what stands before the @ may be a secret.
        return Err(Error::invalid("the storage url holds a name or password before an \"@\"")
            .with_hint("give access_key_id and secret_access_key_file under [storage] instead"));
    }
    let (bucket, prefix) = bucket_and_prefix.split_once('/').unwrap_or((bucket_and_prefix, ""));
    if bucket.is_empty() {
        return Err(Error::invalid(format!("storage url {url:?} names no bucket"))
            .with_hint("write it as s3://bucket/prefix"));
    }
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    for (name, value) in options {
        let name = if name == "virtual_hosted" { "virtual_hosted_style_request" } else { name };
        let key: AmazonS3ConfigKey = name.to_ascii_lowercase().parse().map_err(|_| {
            Error::invalid(format!("unknown storage option {name:?}")).with_hint(
                "known are endpoint, region, access_key_id, secret_access_key, token, allow_http \
                 and virtual_hosted_style_request",
            )
        })?;
        builder = builder.with_config(key, value);
    }
    let retry = RetryConfig {
        max_retries: RETRIES_MAX,
        retry_timeout: RETRY_TIMEOUT,
        ..RetryConfig::default()
    };
    let store = builder
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(retry)
        .build()
        .map_err(|e| Error::invalid(format!("cannot open storage {url:?}")).with_source(e))?;
    let prefix = Path::parse(prefix.trim_matches('/'))
        .map_err(|e| Error::invalid(format!("storage url {url:?} is wrong")).with_source(e))?;
    if prefix.parts().next().is_none() {
        return Ok(Arc::new(store));
    }
    Ok(Arc::new(PrefixStore::new(store, prefix)))
}
