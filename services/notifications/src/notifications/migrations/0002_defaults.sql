insert into category (code, version, rules) values
('thank-you', 1, '{"message_class": "transactional", "subject_age_days": 7}'),
('anniversary', 1, '{"message_class": "marketing", "purpose": "marketing", "subject_age_days": 7}');

insert into template (code, language, version, subject, text, html) values
('thank-you', 'default', 1,
$$Thank you for your purchase {{ order }}$$,
$$Hello{% if given_name %} {{ given_name }}{% endif %},

thank you for your purchase {{ order }} of {{ purchased_on }}, {{ amount }} {{ currency }}.
If anything is not as you expected, answer this mail and we will put it right.

Your shop
$$,
$$<!doctype html>
<html lang="en"><body>
<p>Hello{% if given_name %} {{ given_name }}{% endif %},</p>
<p>thank you for your purchase {{ order }} of {{ purchased_on }}, {{ amount }} {{ currency }}.<br>
If anything is not as you expected, answer this mail and we will put it right.</p>
<p>Your shop</p>
</body></html>
$$),
('thank-you', 'cs', 1,
$$Děkujeme za nákup {{ order }}$$,
$$Dobrý den,

děkujeme za nákup {{ order }} ze dne {{ purchased_on }}, {{ amount }} {{ currency }}.
Pokud něco není v pořádku, odpovězte na tento e-mail a napravíme to.

Váš obchod
$$,
$$<!doctype html>
<html lang="cs"><body>
<p>Dobrý den,</p>
<p>děkujeme za nákup {{ order }} ze dne {{ purchased_on }}, {{ amount }} {{ currency }}.<br>
Pokud něco není v pořádku, odpovězte na tento e-mail a napravíme to.</p>
<p>Váš obchod</p>
</body></html>
$$),
('anniversary', 'default', 1,
$$Thank you for {{ years }} year{% if years != 1 %}s{% endif %} with us$$,
$$Hello{% if given_name %} {{ given_name }}{% endif %},

on {{ purchased_on }} you bought from us for the first time. Thank you for staying with us.

Your shop

No more such mails: {{ unsubscribe_url }}
$$,
$$<!doctype html>
<html lang="en"><body>
<p>Hello{% if given_name %} {{ given_name }}{% endif %},</p>
<p>on {{ purchased_on }} you bought from us for the first time. Thank you for staying with us.</p>
<p>Your shop</p>
<p><a href="{{ unsubscribe_url }}">No more such mails</a></p>
</body></html>
$$),
('anniversary', 'cs', 1,
$$Děkujeme, že jste s námi$$,
$$Dobrý den,

dne {{ purchased_on }} jste u nás nakoupili poprvé. Děkujeme, že jste s námi.

Váš obchod

Další takové zprávy už nechci: {{ unsubscribe_url }}
$$,
$$<!doctype html>
<html lang="cs"><body>
<p>Dobrý den,</p>
<p>dne {{ purchased_on }} jste u nás nakoupili poprvé. Děkujeme, že jste s námi.</p>
<p>Váš obchod</p>
<p><a href="{{ unsubscribe_url }}">Další takové zprávy už nechci</a></p>
</body></html>
$$);
