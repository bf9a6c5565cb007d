-- First answers are kept by the core, in rapport.answer.
drop table idempotency;
