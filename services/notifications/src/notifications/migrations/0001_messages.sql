-- Who can be written to, as the events of contacts tell it.
create table recipient (
    contact_id uuid primary key,
    address text,
    address_hash bytea,
    given_name text,
    language text,
    zone text,
    version integer not null
);

create table consent (
    contact_id uuid not null,
    purpose text not null,
    channel text not null,
    granted boolean not null,
    event_id uuid not null,
    wording_version text not null,
    changed_at timestamptz not null,
    primary key (contact_id, purpose, channel)
);

-- Addresses that no class of message reaches; kept as hashes.
create table suppression (
    address_hash bytea primary key,
    reason text not null,
    message_id uuid not null,
    suppressed_at timestamptz not null
);

create table category (
    code text not null,
    version integer not null,
    rules jsonb not null,
    changed_at timestamptz not null default clock_timestamp(),
    primary key (code, version)
);

create table template (
    code text not null,
    language text not null,
    version integer not null,
    subject text not null,
    text text not null,
    html text not null,
    published_at timestamptz not null default clock_timestamp(),
    primary key (code, language, version)
);

-- One row per decision. `decided_at`, `due_at`, `expires_at`, `handed_over_at` and `sent_at` are
-- business time; `not_before` is real time, because only technical retries set it.
create table message (
    id uuid primary key,
    contact_id uuid not null,
    rule text not null,
    about_id uuid not null,
    occasion text not null,
    channel text not null,
    category text not null,
    category_version integer not null,
    message_class text not null,
    template text not null,
    template_language text,
    template_version integer,
    state text not null check (
        state in ('queued', 'sending', 'sent', 'suppressed', 'failed', 'unknown')),
    reason text,
    gates jsonb not null,
    variables jsonb,
    consent_event_id uuid,
    cause_id uuid not null,
    trace text,
    decided_at timestamptz not null,
    due_at timestamptz not null,
    expires_at timestamptz not null,
    not_before timestamptz not null default '-infinity',
    failures integer not null default 0,
    handed_over_at timestamptz,
    sent_at timestamptz
);
-- For ever: a rule writes once about one thing on one occasion to one contact on one channel.
create unique index message_dedupe on message (about_id, rule, occasion, contact_id, channel);
create index message_contact on message (contact_id, decided_at, id);
create index message_queued on message (due_at, id) where state = 'queued';

-- Committed as `sending` before the mail server is spoken to. `unknown` is open until the provider
-- was asked; `unresolved` stays, because it could not be.
create table attempt (
    id uuid primary key,
    message_id uuid not null,
    number integer not null,
    holder uuid not null,
    state text not null check (state in (
        'sending', 'sent', 'deferred', 'rejected', 'released', 'unknown', 'lost', 'unresolved')),
    code integer,
    enhanced_code text,
    started_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz
);
create index attempt_message on attempt (message_id, number);
create index attempt_open on attempt (started_at) where state in ('sending', 'unknown');

-- The opaque part of one-click links: it names a contact and a list, and cannot be guessed.
create table unsubscribe_token (
    token text primary key default replace(gen_random_uuid()::text, '-', ''),
    contact_id uuid not null,
    category text not null
);
create index unsubscribe_token_contact on unsubscribe_token (contact_id, category);
