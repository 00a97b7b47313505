//! The tables, as Diesel knows them: portable types only, so that they mean the same in both
//! databases. `migrations/` says what each column is.

use diesel::{allow_tables_to_appear_in_same_query, joinable, table};

table! {
    schema_version (version) {
        version -> BigInt,
    }
}

table! {
    meta (name) {
        name -> Text,
        value -> Binary,
    }
}

table! {
    user_account (id) {
        id -> BigInt,
        login -> Text,
        login_folded -> Text,
        name -> Text,
        email -> Text,
        phone -> Text,
        password_hash -> Nullable<Text>,
        active -> Bool,
        admin -> Bool,
        created_at -> BigInt,
    }
}

table! {
    user_group (id) {
        id -> BigInt,
        name -> Text,
    }
}

table! {
    user_group_member (user_id, group_id) {
        user_id -> BigInt,
        group_id -> BigInt,
    }
}

table! {
    factor_totp (user_id) {
        user_id -> BigInt,
        secret -> Nullable<Binary>,
        confirmed_at -> Nullable<BigInt>,
        last_step -> BigInt,
        pending_secret -> Nullable<Binary>,
        pending_at -> Nullable<BigInt>,
    }
}

table! {
    factor_email (user_id) {
        user_id -> BigInt,
        confirmed_at -> Nullable<BigInt>,
        pending_code -> Nullable<Binary>,
        pending_until -> Nullable<BigInt>,
    }
}

table! {
    recovery_code (id) {
        id -> BigInt,
        user_id -> BigInt,
        digest -> Binary,
        used_at -> Nullable<BigInt>,
    }
}

table! {
    guess_budget (user_id, method, lane) {
        user_id -> BigInt,
        method -> Text,
        lane -> Text,
        recent -> Text,
        charged -> BigInt,
        cleared -> BigInt,
    }
}

table! {
    mail_budget (user_id, lane) {
        user_id -> BigInt,
        lane -> Text,
        recent -> Text,
    }
}

table! {
    location (id) {
        id -> BigInt,
        name -> Text,
        private_key -> Binary,
        public_key -> Binary,
        endpoint -> Text,
        listen_port -> Integer,
        addresses -> Text,
        allowed_ips -> Text,
        dns -> Text,
        keepalive -> Integer,
        mtu -> Integer,
        mfa -> Text,
        methods -> Text,
        idle_mode -> Text,
        idle_millis -> BigInt,
        lifetime_millis -> BigInt,
        psk_rotation_millis -> BigInt,
        daily_end -> Text,
        link_loss_millis -> BigInt,
        outage_hold_millis -> BigInt,
        revision -> BigInt,
        pruned_revision -> BigInt,
        config_version -> BigInt,
        created_at -> BigInt,
    }
}

table! {
    location_group (location_id, group_id) {
        location_id -> BigInt,
        group_id -> BigInt,
    }
}

table! {
    location_change (id) {
        id -> BigInt,
        location_id -> BigInt,
        revision -> BigInt,
        public_key -> Nullable<Binary>,
    }
}

table! {
    device (id) {
        id -> BigInt,
        user_id -> BigInt,
        name -> Text,
        public_key -> Binary,
        polling_token -> Nullable<Binary>,
        polled_at -> Nullable<BigInt>,
        polled_from -> Nullable<Text>,
        created_at -> BigInt,
    }
}

table! {
    device_address (id) {
        id -> BigInt,
        location_id -> BigInt,
        device_id -> Nullable<BigInt>,
        family -> Integer,
        ip -> Binary,
        rest_until -> BigInt,
    }
}

table! {
    gateway (id) {
        id -> BigInt,
        location_id -> BigInt,
        name -> Text,
        cert_serial -> Nullable<Binary>,
        previous_cert_serial -> Nullable<Binary>,
        legacy_token -> Nullable<Binary>,
        enrolled_at -> Nullable<BigInt>,
        heard_at -> Nullable<BigInt>,
        applied_revision -> BigInt,
        version -> Text,
        backend -> Text,
        hostname -> Text,
        revoked_at -> Nullable<BigInt>,
        created_at -> BigInt,
    }
}

table! {
    one_use_token (id) {
        id -> BigInt,
        purpose -> Text,
        digest -> Binary,
        gateway_id -> Nullable<BigInt>,
        created_at -> BigInt,
        expires_at -> BigInt,
        used_at -> Nullable<BigInt>,
    }
}

table! {
    api_token (id) {
        id -> BigInt,
        name -> Text,
        digest -> Binary,
        user_id -> Nullable<BigInt>,
        scopes -> Text,
        created_at -> BigInt,
        expires_at -> BigInt,
        used_at -> Nullable<BigInt>,
    }
}

table! {
    enrollment (id) {
        id -> BigInt,
        user_id -> BigInt,
        token -> Binary,
        session -> Nullable<Binary>,
        deadline -> BigInt,
        state -> Text,
        confirmed_at -> Nullable<BigInt>,
    }
}

table! {
    challenge (id) {
        id -> BigInt,
        token -> Binary,
        user_id -> BigInt,
        device_id -> BigInt,
        location_id -> BigInt,
        lane -> Text,
        method -> Text,
        code_digest -> Nullable<Binary>,
        started_at -> BigInt,
        expires_at -> BigInt,
        tries -> Integer,
        state -> Text,
    }
}

table! {
    session (id) {
        id -> BigInt,
        user_id -> BigInt,
        device_id -> BigInt,
        location_id -> BigInt,
        method -> Text,
        psk -> Nullable<Binary>,
        generation -> BigInt,
        authorized_at -> BigInt,
        lifetime_ends_at -> BigInt,
        connected_at -> Nullable<BigInt>,
        active_at -> BigInt,
        ended_at -> Nullable<BigInt>,
        end_reason -> Nullable<Text>,
        rx_bytes -> BigInt,
        tx_bytes -> BigInt,
        psk_since -> Nullable<BigInt>,
        next_psk -> Nullable<Binary>,
        next_staged_at -> Nullable<BigInt>,
        next_set_at -> Nullable<BigInt>,
        next_proven_at -> Nullable<BigInt>,
        next_revision -> Nullable<BigInt>,
        previous_psk_digest -> Nullable<Binary>,
        end_revision -> Nullable<BigInt>,
        heard_at -> Nullable<BigInt>,
    }
}

table! {
    audit (seq) {
        seq -> BigInt,
        at -> BigInt,
        actor -> Text,
        action -> Text,
        subject -> Text,
        detail -> Text,
        previous -> Binary,
        hash -> Binary,
    }
}

table! {
    audit_head (id) {
        id -> BigInt,
        seq -> BigInt,
        hash -> Binary,
    }
}

table! {
    core_process (id) {
        id -> Binary,
        beat -> BigInt,
        key_id -> BigInt,
    }
}

table! {
    gateway_seat (gateway_id) {
        gateway_id -> BigInt,
        location_id -> BigInt,
        core_id -> Binary,
        stream -> BigInt,
        process -> Binary,
        shut_out -> Nullable<Binary>,
        applied_revision -> Nullable<BigInt>,
    }
}

table! {
    web_session (id) {
        id -> BigInt,
        digest -> Binary,
        user_id -> BigInt,
        stage -> Text,
        created_at -> BigInt,
        seen_at -> BigInt,
        proved_at -> BigInt,
        expires_at -> BigInt,
        mailed_code -> Nullable<Binary>,
        challenge -> Nullable<Binary>,
        challenge_until -> Nullable<BigInt>,
    }
}

table! {
    passkey (id) {
        id -> BigInt,
        user_id -> BigInt,
        credential -> Binary,
        algorithm -> BigInt,
        public_key -> Binary,
        sign_count -> BigInt,
        name -> Text,
        created_at -> BigInt,
        used_at -> Nullable<BigInt>,
    }
}

table! {
    mail_settings (id) {
        id -> BigInt,
        host -> Text,
        port -> BigInt,
        tls -> Text,
        login -> Text,
        password -> Nullable<Binary>,
        sender -> Text,
        changed_at -> BigInt,
    }
}

table! {
    traffic (location_id, at) {
        location_id -> BigInt,
        at -> BigInt,
        rx_bytes -> BigInt,
        tx_bytes -> BigInt,
    }
}

table! {
    gateway_trail (gateway_id, revision) {
        gateway_id -> BigInt,
        location_id -> BigInt,
        revision -> BigInt,
        committed_at -> BigInt,
        sent_at -> BigInt,
        applied_at -> BigInt,
        verified_at -> BigInt,
    }
}

table! {
    session_cut (session_id, gateway_id) {
        session_id -> BigInt,
        gateway_id -> BigInt,
        rx_bytes -> BigInt,
        tx_bytes -> BigInt,
    }
}

joinable!(device -> user_account (user_id));
joinable!(device_address -> device (device_id));
joinable!(session -> device (device_id));
joinable!(session -> location (location_id));
joinable!(session -> user_account (user_id));
joinable!(user_group_member -> user_group (group_id));
joinable!(location_group -> user_group (group_id));

allow_tables_to_appear_in_same_query!(
    device,
    device_address,
    location,
    location_group,
    session,
    user_account,
    user_group,
    user_group_member,
);
