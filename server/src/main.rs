//! The `otus` command. All it does lies in the library.
#![expect(
    unsafe_code,
    reason = "the allocator's wrapper does not have the function that gives memory back"
)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

unsafe extern "C" {
    fn mi_collect(force: bool);
}

fn give_back() {
    // SAFETY: takes no pointer, and any thread may call it at any time.
    unsafe { mi_collect(true) }
}

fn main() -> ExitCode {
    otus_server::memory::given_back_by(give_back);
    otus_server::cli::main()
}
