//! Compiles the protocols without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/gateway.proto", "proto/legacy.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::WipingCodec")
        // These hold keys; their Debug is written by hand.
        .skip_debug([
            ".wgmfa.gateway.v1.EnrollRequest",
            ".wgmfa.gateway.v1.InterfaceConfig",
            ".wgmfa.gateway.v1.Peer",
            ".gateway.Configuration",
            ".gateway.Peer",
        ])
        .compile_fds(files)?;
    Ok(())
}
