(() => {
  const cases = [...document.querySelectorAll('.case')];
  const controls = document.querySelector('.controls');
  if (!controls) return;
  const buttons = [...controls.querySelectorAll('button')];
  const [version, search, shown] = ['select', 'input', 'output'].map(it => controls.querySelector(it));
  let result = cases.some(it => it.dataset.result === 'failed') ? 'failed' : '';
  const apply = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const it of cases) {
      const text = `${it.querySelector('.name').textContent} ${it.querySelector('.ids').textContent}`.toLowerCase();
      const fits = (!result || it.dataset.result === result)
        && (!version.value || it.dataset.version === version.value)
        && words.every(word => word[0] === '§' ? `§${it.dataset.section}.`.startsWith(`${word}.`) : text.includes(word));
      it.hidden = !fits;
      count += fits;
    }
    for (const it of buttons) it.setAttribute('aria-pressed', it.dataset.result === result);
    shown.textContent = `${count} of ${cases.length}`;
  };
  for (const it of buttons) it.onclick = () => { result = it.dataset.result; apply(); };
  version.onchange = search.oninput = apply;
  for (const row of document.querySelectorAll('tr[data-section] button')) {
    row.onclick = () => {
      search.value = `§${row.closest('tr').dataset.section} `;
      result = '';
      apply();
      controls.scrollIntoView();
    };
  }
  apply();
})();
