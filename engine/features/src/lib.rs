//! Empty on purpose: this package only lists dependencies, so that `cargo build -p <any package>` resolves
//! the same features as the whole workspace and nothing is built twice. It holds no code.
