-- First answers to requests that named an Idempotency-Key; `contact_id` says whose data one holds.
create table rapport.answer (
    key text primary key,
    fingerprint bytea not null,
    contact_id uuid,
    status integer not null,
    headers jsonb not null,
    body text not null,
    answered_at timestamptz not null default clock_timestamp()
);
create index answer_age on rapport.answer (answered_at);
create index answer_contact on rapport.answer (contact_id) where contact_id is not null;
