//! A client that is not ours: `curl` for the public API, `wg` and `ip` for the tunnel.

use super::*;

/// Everything that a stranger's client would do, in the shell. `$1` core's address, `$2` the
/// enrollment token, `$3` the TOTP program.
const CLIENT: &str = r#"
set -eu
cd "$(mktemp -d)"
post() { curl --silent --show-error --insecure --cookie jar --cookie-jar jar \
    --header 'content-type: application/json' --data "$2" "$1api/v1/$3"; }
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
umask 077
wg genkey > key
pub=$(wg pubkey < key)
post "$1" "{\"token\":\"$2\"}" enrollment/start > start
config=$(post "$1" "{\"name\":\"foreign\",\"pubkey\":\"$pub\"}" enrollment/create_device)
secret=$(post "$1" '{"method":0}' enrollment/register-mfa/code/start | field totp_secret)
code() { oathtool --totp --base32 --now "$1 seconds" "$secret"; }
post "$1" "{\"code\":\"$(code -30)\",\"method\":0}" enrollment/register-mfa/code/finish > recovery
grep -q recovery_codes recovery
poll=$(printf %s "$config" | sed 's/.*"token":"\([^"]*\)".*/\1/')
post "$1" "{\"token\":\"$poll\"}" poll > poll
grep -q '"network_name":"office"' poll
start() { post "$1" "{\"location_id\":1,\"pubkey\":\"$pub\",\"method\":0}" client-mfa/start | field token; }
wrong=$(post "$1" "{\"token\":\"$(start "$1")\",\"code\":\"000000\"}" client-mfa/finish)
[ "$wrong" != "${wrong#*'"error":"Unauthorized"'}" ] || { echo "wrong code: $wrong" >&2; exit 1; }
psk=$(post "$1" "{\"token\":\"$(start "$1")\",\"code\":\"$(code 0)\"}" client-mfa/finish | field preshared_key)
printf %s "$psk" > psk
address=$(printf %s "$config" | field assigned_ip)
peer=$(printf %s "$config" | sed 's/.*"network_id".*"pubkey":"\([^"]*\)".*/\1/')
endpoint=$(printf %s "$config" | field endpoint)
printf '%s\n' "$address" "$peer" "$endpoint"
"$3" wg-foreign
wg set wg-foreign private-key key peer "$peer" preshared-key psk endpoint "$endpoint" allowed-ips 10.99.0.0/24
ip address add "${address%%,*}/32" dev wg-foreign
ip link set wg-foreign up
ip route add 10.99.0.0/24 dev wg-foreign
ping -n -c 3 -W 2 10.99.0.1
"#;

/// Makes an interface: the kernel's, or Debian's userspace WireGuard.
const INTERFACE: &str = "#!/bin/sh\n\
    ip link add \"$1\" type wireguard 2>/dev/null || wireguard-go \"$1\"\n";

#[test]
fn a_client_made_of_curl_and_wg_gets_in() -> Result<()> {
    demo::lab::within("foreign::a_client_made_of_curl_and_wg_gets_in", |lab| {
        let company = Company::found(lab)?;
        add_location(&company, "office", "10.1.0.1/24", "10.77.0.2:51820", &["--mfa", "on"])?;
        let gateway = join_gateway(&company, lab, "office", "gw1", SERVER)?;
        company.admin(&["user", "add", "alice", "--email", "alice@example.org"])?;
        let ticket = company.admin(&["user", "enroll", "alice"])?;
        let token = demo::company::text(&ticket, "token")?;
        // The pin after the dot is for our own client.
        let token = token.split_once('.').map_or(token, |(token, _)| token);

        let interface = lab.directory().join("interface");
        std::fs::write(&interface, INTERFACE)?;
        demo::lab::run("chmod", ["+x", &interface.display().to_string()])?;
        let stranger = lab.host("foreign")?;
        let mut command = stranger.command("bash");
        command.args(["-c", CLIENT, "client", demo::company::PUBLIC_URL, token]);
        let output = command.arg(&interface).output()?;
        demo::lab::text(&output)?;
        ensure!(gateway.peers()?.len() == 1);
        Ok(())
    })
}
