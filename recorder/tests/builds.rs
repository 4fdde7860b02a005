//! Records real builds of llama.cpp and ggml that differ in age, compiler, linking and contents,
//! each as shipped and stripped. Needs root, BTF, and what `setup-builds.sh` prepares.
//!
//! A build that could not be prepared fails here; `.ci/privileged.sh` leaves its tests out and
//! says so.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

#[path = "builds/build.rs"]
mod build;
#[path = "record/invariants.rs"]
#[expect(dead_code, reason = "some is for Gemma alone")]
mod invariants;
#[path = "builds/offload.rs"]
mod offload;
#[path = "record/workload.rs"]
#[expect(dead_code, reason = "the workloads here are others")]
mod workload;

use build::{Build, Form};

/// Tests of one build, under its name, so that a build that is not there can be left out.
macro_rules! tests {
    ($($module:ident: $check:ident($build:expr);)*) => {$(
        mod $module {
            use super::*;

            #[test]
            #[ignore = "needs root, BTF and a prepared build"]
            fn as_shipped() {
                build::$check(&$build, Form::AsShipped);
            }

            #[test]
            #[ignore = "needs root, BTF and a prepared build"]
            fn stripped() {
                build::$check(&$build, Form::Stripped);
            }
        }
    )*};
}

/// Operators of every transformer that llama.cpp runs.
const DENSE: &[&str] = &["MUL_MAT", "RMS_NORM", "ROPE", "ADD", "GET_ROWS"];

tests! {
    node_3_22_1: thread_level(Build {
        name: "node-3.22.1",
        workload: 12,
        decodes: Some(11),
        operators: DENSE,
        ggml_version: true,
        barrier: "call",
    });
    // llama.cpp b4753, of February 2025. It builds its graph anew for each token, and on a busy
    // machine some are gone before they are read: so there are more tokens than elsewhere.
    node_3_6_0: thread_level(Build {
        name: "node-3.6.0",
        workload: 24,
        decodes: Some(23),
        operators: DENSE,
        ggml_version: false,
        barrier: "call",
    });
    // All in one object.
    xllamacpp: thread_level(Build {
        name: "xllamacpp",
        workload: 12,
        decodes: Some(11),
        operators: DENSE,
        ggml_version: true,
        barrier: "call",
    });
    // No llama, and OpenMP's threads. Each graph is made anew, too, and takes a millisecond.
    whisper: thread_level(Build {
        name: "whisper",
        workload: 48,
        decodes: None,
        operators: &["MUL_MAT", "IM2COL", "NORM", "ADD", "GET_ROWS"],
        ggml_version: true,
        barrier: "call",
    });
    // No llama, barriers inlined into the loop over nodes, new threads for every graph.
    clang: thread_level(Build {
        name: "clang",
        workload: 20,
        decodes: None,
        operators: &["MUL_MAT", "RMS_NORM", "SOFT_MAX", "ADD", "UNARY", "CONT"],
        ggml_version: true,
        barrier: "je",
    });
    // llama.cpp b3889, of October 2024, has no function that begins every node.
    node_3_1_1: graph_level(Build {
        name: "node-3.1.1",
        workload: 8,
        decodes: Some(7),
        operators: DENSE,
        ggml_version: false,
        barrier: "",
    });
}

/// Offloading, with none, some and all layers on the device.
mod vulkan_3_22_1 {
    use super::*;

    #[test]
    #[ignore = "needs root, BTF and a prepared build"]
    fn no_layers() {
        offload::no_layers(Form::AsShipped);
    }

    #[test]
    #[ignore = "needs root, BTF and a prepared build"]
    fn some_layers() {
        offload::some_layers(Form::AsShipped);
    }

    #[test]
    #[ignore = "needs root, BTF and a prepared build"]
    fn some_layers_stripped() {
        offload::some_layers(Form::Stripped);
    }

    #[test]
    #[ignore = "needs root, BTF and a prepared build"]
    fn all_layers() {
        offload::all_layers(Form::AsShipped);
    }

    #[test]
    #[ignore = "needs root, BTF and a prepared build"]
    fn experts_on_the_device() {
        offload::experts_on_the_device(Form::AsShipped);
    }

    #[test]
    #[ignore = "needs root, BTF and a prepared build"]
    fn switched_off() {
        offload::switched_off(Form::AsShipped);
    }
}
