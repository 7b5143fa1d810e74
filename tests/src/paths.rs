//! Where things are: the checkout, the cache of test components, the data with known answers, the binary.

use std::env;
use std::path::{Path, PathBuf};

/// Root of the checkout: that from which cargo runs the test (a build folder may serve several), else that of the build.
pub fn checkout() -> PathBuf {
    let part = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    part.parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Folder of Kafka's jars and the Python environment (`OTUS_TEST_CACHE`).
pub fn cache() -> PathBuf {
    env::var_os("OTUS_TEST_CACHE").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache/otus"),
        PathBuf::from,
    )
}

/// Folder of real events with known answers (`OTUS_TEST_DATA`).
pub fn data() -> PathBuf {
    env::var_os("OTUS_TEST_DATA").map_or_else(|| checkout().join("../shared/data"), PathBuf::from)
}

/// The `otus` binary of the build that runs this test.
pub fn binary() -> anyhow::Result<PathBuf> {
    let this = env::current_exe()?;
    let found = this
        .ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join("otus"))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        anyhow::anyhow!(
            "no binary `otus` beside {}: run cargo build --release first",
            this.display()
        )
    })
}
