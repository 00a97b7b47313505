//! What one login costs the domain: `cargo bench --bench challenge`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use wg_mfa::mfa_core::budget::{GuessBudget, Lane};
use wg_mfa::mfa_core::challenge::{
    Access, Answer, Challenge, Evidence, Question, Standing, Subject, TotpEvidence,
};
use wg_mfa::mfa_core::factor::email_code::EmailCode;
use wg_mfa::mfa_core::factor::recovery::RecoveryCode;
use wg_mfa::mfa_core::factor::totp::{TotpSecret, TotpStep};
use wg_mfa::mfa_core::factor::{CodeDigest, CodeKey};
use wg_mfa::mfa_core::id::{DeviceId, LocationId, UserId};
use wg_mfa::mfa_core::method::{Method, MethodSet};
use wg_mfa::mfa_core::policy::LocationPolicy;
use wg_mfa::mfa_core::time::Timestamp;
use wg_mfa::mfa_core::token::{Token, TokenDigest};

const NOW: Timestamp = Timestamp::from_unix_millis(1_700_000_000_000);
const SUBJECT: Subject =
    Subject { user: UserId::new(1), device: DeviceId::new(1), location: LocationId::new(1) };

fn factors(c: &mut Criterion) {
    let secret = TotpSecret::from_bytes([7; 20]);
    let code = secret.code_at(NOW);
    let stale = secret.code_at(Timestamp::UNIX_EPOCH);
    c.bench_function("totp/verify a right code", |b| {
        b.iter(|| secret.verify(black_box(&code), NOW, Some(TotpStep::new(1))));
    });
    c.bench_function("totp/verify a wrong code", |b| {
        b.iter(|| secret.verify(black_box(&stale), NOW, None));
    });

    let (key, token) = (CodeKey::from_bytes([1; 32]), TokenDigest::from_bytes([2; 32]));
    let mailed = EmailCode::from_random([3; 32]);
    c.bench_function("e-mail code/digest", |b| b.iter(|| mailed.digest(&key, black_box(&token))));
    c.bench_function("token/digest", |b| {
        let token = Token::from_random([4; 32]);
        b.iter(|| black_box(&token).digest());
    });
}

fn challenges(c: &mut Criterion) {
    let secret = TotpSecret::from_bytes([7; 20]);
    let key = CodeKey::from_bytes([1; 32]);
    let sheet = RecoveryCode::sheet(&[5; 100]);
    let digests: Vec<CodeDigest> =
        sheet.iter().map(|code| code.digest(&key, SUBJECT.user)).collect();
    let policy = LocationPolicy::recommended();
    let standing = Standing { access: Access::Granted, policy: &policy, enabled: MethodSet::ALL };
    let totp = Some(TotpEvidence { secret: &secret, last_step: None });
    let evidence = Evidence { key: &key, totp, recovery: &digests };
    let token = TokenDigest::from_bytes([2; 32]);
    let start = || {
        Challenge::start(token, SUBJECT, Lane::Proven, Question::Totp, &standing, NOW).map_err(drop)
    };
    let finish = |mut challenge: Challenge, text: &str| {
        let answer = Answer::parse(Method::Totp, text).map_err(drop)?;
        let mut budget = GuessBudget::new(challenge.guess_key());
        let attempt = challenge.count_try(answer, &mut budget, NOW).map_err(drop)?;
        challenge.verify(&attempt, &SUBJECT, &evidence, &standing, NOW).map_err(drop)
    };

    let right = secret.code_at(NOW).expose_text();
    let recovery = RecoveryCode::sheet(&[5; 100])[0].expose_text();
    let mut group = c.benchmark_group("challenge");
    group.bench_function("start", |b| b.iter(start));
    for (name, text) in
        [("right code", right.as_str()), ("wrong code", "000000"), ("recovery", recovery.as_str())]
    {
        group.bench_function(format!("count and verify a {name}"), |b| {
            b.iter_batched(
                start,
                |challenge| challenge.and_then(|challenge| finish(challenge, black_box(text))),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, factors, challenges);
criterion_main!(benches);
