// What a call of a thousand tokens in and out costs by the prices in the form, while they are typed.
// It is shown to catch slips, so the nine decimals of a dollar that we count in are enough.
document.addEventListener("DOMContentLoaded", () => {
  const target = document.querySelector("[data-preview]");
  const input = document.querySelector("[name=input_usd]");
  const output = document.querySelector("[name=output_usd]");
  const show = () => {
    const plain = [input, output].every((field) => /^\d+(\.\d+)?$/.test(field.value.trim()));
    const usd = (Number(input.value) + Number(output.value)) / 1000;
    const text = usd.toFixed(9).replace(/0+$/, "").replace(/\.(\d?)$/, (_, one) => "." + one.padEnd(2, "0"));
    target.textContent = plain ? `1K in + 1K out = $${text}` : "";
  };
  input.addEventListener("input", show);
  output.addEventListener("input", show);
  show();
});
