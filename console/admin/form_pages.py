"""Pages that change something: a form, and one service call when it is sent.

They are not Django's own add and change pages, because those open a transaction around the form,
and our services open their own, which end in a commit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AutocompleteSelect
from django.db.models import ForeignKey, Model
from django.http import HttpRequest, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from typing_extensions import override
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.errors import Refused
from billing.money import InvalidMoney, parse_fraction_ppm, parse_usd
from console.admin.base import ServiceAdmin, change_url, require

# What is done with the values of a form. Raises Refused.
Act = Callable[[dict[str, Any]], HttpResponseBase]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormPage:
    title: str
    submit: str
    form: forms.Form
    intro: str = ""
    back: str = ""
    about: Model | None = None
    danger: bool = False
    script: str = ""  # A static file that helps to fill it in.


class Confirmation(forms.Form):
    """Nothing to fill in: sending it is the answer."""


class UsdField(forms.CharField):
    """Dollars, exactly, as whole nano-USD."""

    widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "placeholder": "0.00"})

    @override
    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:  # It is not required.
            return None
        try:
            return parse_usd(text)
        except InvalidMoney as error:
            raise forms.ValidationError(str(error)) from error


class FractionField(forms.CharField):
    """A fraction to pay, as parts per million; also above 1, which the form has to judge."""

    widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "placeholder": "0.5"})

    @override
    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        if not text:
            return None
        try:
            return parse_fraction_ppm(text, allow_surcharge=True)
        except InvalidMoney as error:
            raise forms.ValidationError(str(error)) from error


class RowField(forms.ModelChoiceField):  # type: ignore[type-arg]  # Of any model; generic only for the type checker.
    """A row that is found by typing a part of its name."""

    def __init__(self, model: type[Model], field: str, **options: Any) -> None:
        """`field` is the foreign key of `model` whose target is asked for."""
        key = model._meta.get_field(field)  # noqa: SLF001  Django's public name for it.
        assert isinstance(key, ForeignKey)
        super().__init__(
            queryset=key.related_model._default_manager.all(),  # noqa: SLF001  The same.
            widget=AutocompleteSelect(key, admin.site),
            **options,
        )


class WordsField(forms.CharField):
    """Names, separated by commas, spaces or line ends; None if there are none."""

    @override
    def clean(self, value: Any) -> Any:
        return str(super().clean(value)).replace(",", " ").split() or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked before something is done to a row."""

    title: str
    submit: str
    intro: str = ""
    danger: bool = False
    back: str = ""  # Where to go afterwards; the row's own page, unless the row is gone then.


class AddPageAdmin(ServiceAdmin):
    """Rows that are made on a page of their own."""

    def add_page(self, request: HttpRequest) -> tuple[FormPage, Act]:
        """The page, and what is done with the values that it was sent with."""
        raise NotImplementedError

    @override
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> HttpResponseBase:
        require(self.has_add_permission(request))
        page, act = self.add_page(request)
        return form_view(self, request, page, act)


def form_view(
    model_admin: Any,
    request: HttpRequest,
    page: FormPage,
    act: Act,
) -> HttpResponseBase:
    """Show the form; once it is sent and valid, act on its values.

    What the domain refuses becomes a sentence above the form, which is shown again.
    """
    if request.method == "POST" and page.form.is_valid():
        try:
            return act(page.form.cleaned_data)
        except Refused as refusal:
            page.form.add_error(None, str(refusal))
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": page.title,
        "object": page.about,
        "page": page,
        "form": page.form,
        "media": page.form.media,
    }
    return TemplateResponse(request, "console/form_page.html", context)


def confirm_view(
    model_admin: Any,
    request: HttpRequest,
    row: Model,
    question: Question,
    act: Callable[[], str],
) -> HttpResponseBase:
    """Ask; once that is answered, act, and tell what was done on the row's own page."""
    page = FormPage(
        title=question.title,
        submit=question.submit,
        form=Confirmation(data_of(request)),
        intro=question.intro,
        back=question.back or change_url(row),
        about=row,
        danger=question.danger,
    )
    return form_view(model_admin, request, page, lambda _: done(request, act(), page.back))


def shown_once(
    model_admin: Any, request: HttpRequest, template: str, context: dict[str, Any]
) -> HttpResponseBase:
    """A secret in the answer itself: a redirect would have to keep it somewhere in between."""
    return TemplateResponse(
        request,
        template,
        {**model_admin.admin_site.each_context(request), "opts": model_admin.opts, **context},
        headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
    )


def data_of(request: HttpRequest) -> QueryDict | None:
    """What was sent; None as long as the page is only looked at."""
    return request.POST if request.method == "POST" else None


def done(request: HttpRequest, sentence: str, url: str) -> HttpResponseBase:
    messages.success(request, sentence)
    return redirect(url)
